"""Weights read by offset: the right bytes, in the right dtype, under the right name, and no more than asked for."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForSequenceClassification

from distmed.errors import UserError
from distmed.model import streaming
from distmed.model.streaming import Stored, initialize, places, stored_tensors, without_data

WEIGHTS = {"a": torch.randn(7, 5), "b": torch.randn(3)}


def written(folder: Path, tensors: dict[str, torch.Tensor]) -> dict[str, Stored]:
    save_file(tensors, folder / "model.safetensors")
    found = stored_tensors(folder)
    assert found is not None
    return found


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16, torch.float8_e4m3fn])
@pytest.mark.parametrize("piece", [1, 8, 1 << 20])
def test_any_run_of_a_tensor_is_read_and_converted(
    dtype: torch.dtype, piece: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streaming, "PIECE_BYTES", piece * dtype.itemsize)
    tensors = {name: tensor.to(dtype) for name, tensor in WEIGHTS.items()}
    stored = written(tmp_path, tensors)["a"]
    for start, stop in ((0, 35), (0, 1), (11, 30), (34, 35), (5, 5)):
        out = torch.full((stop - start,), float("nan"))
        stored.read_into(out, start)
        assert torch.equal(out, tensors["a"].float().view(-1)[start:stop])


def test_two_workers_read_each_byte_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stored = written(tmp_path, WEIGHTS)["a"]
    read: list[range] = []
    own = streaming._read_at

    def counted(file: int, into: memoryview, offset: int, path: Path) -> None:
        read.append(range(offset, offset + len(into)))
        own(file, into, offset, path)

    monkeypatch.setattr(streaming, "_read_at", counted)
    for start, stop in ((0, 18), (18, 35)):
        stored.read_into(torch.empty(stop - start), start)
    places_read = sorted(place for run in read for place in run)
    assert places_read == list(range(stored.offset, stored.offset + 35 * 4))


def test_a_file_that_ends_early_is_told(tmp_path: Path) -> None:
    stored = written(tmp_path, WEIGHTS)["b"]
    path = tmp_path / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-4])
    with pytest.raises(OSError, match=r"model\.safetensors ends at byte"):
        stored.read_into(torch.empty(3), 0)


def test_a_type_that_is_no_plain_float_is_left_to_transformers(tmp_path: Path) -> None:
    save_file({"packed": torch.zeros(3, dtype=torch.uint8)}, tmp_path / "model.safetensors")
    assert stored_tensors(tmp_path) is None


def test_skipped_modules_are_not_there(tmp_path: Path) -> None:
    save_file({"score.weight": torch.zeros(2), "model.score": torch.zeros(2)}, tmp_path / "model.safetensors")
    found = stored_tensors(tmp_path, ("score",))
    assert found is not None
    assert found.keys() == {"model.score"}


def empty(auto: Any, folder: Path, **changes: Any) -> Any:
    config = AutoConfig.from_pretrained(folder)
    for key, value in changes.items():
        setattr(config, key, value)
    with without_data():
        model = auto.from_config(config)
    model.tie_weights()
    return model


def test_parameters_have_no_data_and_buffers_are_as_always(saved: Callable[..., Path]) -> None:
    folder = saved("llama")
    model = empty(AutoModelForCausalLM, folder)
    whole = AutoModelForCausalLM.from_pretrained(folder)
    assert all(parameter.is_meta for parameter in model.parameters())
    buffers = dict(whole.named_buffers())
    assert buffers
    for name, buffer in model.named_buffers():
        assert torch.equal(buffer, buffers[name])


@pytest.mark.parametrize("model_type", ["llama", "bert", "roberta"])
def test_every_parameter_has_its_place(model_type: str, saved: Callable[..., Path]) -> None:
    auto, task = (
        (AutoModelForCausalLM, "generate")
        if model_type == "llama"
        else (AutoModelForSequenceClassification, "classify")
    )
    folder = saved(model_type, task)
    model, whole = empty(auto, folder), dict(auto.from_pretrained(folder).named_parameters())
    stored = stored_tensors(folder)
    assert stored is not None
    found = places(model, stored)
    assert found is not None
    assert found.keys() == whole.keys()
    for name, tensor in found.items():
        out = torch.empty(tensor.numel)
        tensor.read_into(out, 0)
        assert torch.equal(out.view(tensor.shape), whole[name].data)


def test_a_head_that_the_folder_lacks_is_left_out(saved: Callable[..., Path]) -> None:
    folder = saved("llama", "generate")
    model = empty(AutoModelForSequenceClassification, folder, num_labels=3)
    stored = stored_tensors(folder)
    assert stored is not None
    found = places(model, stored)
    assert found is not None
    assert {name for name, _ in model.named_parameters()} - found.keys() == {"score.weight"}


def test_tensors_by_other_names_are_left_to_transformers(saved: Callable[..., Path]) -> None:
    folder = saved("llama")
    stored = stored_tensors(folder)
    assert stored is not None
    renamed = {name.replace("q_proj", "query"): tensor for name, tensor in stored.items()}
    assert places(empty(AutoModelForCausalLM, folder), renamed) is None


def test_an_embedding_may_have_grown_and_nothing_else(saved: Callable[..., Path]) -> None:
    folder = saved("llama")
    stored = stored_tensors(folder)
    assert stored is not None
    found = places(empty(AutoModelForCausalLM, folder, vocab_size=405), stored)
    assert found is not None
    assert found["model.embed_tokens.weight"].shape[0] == 400
    assert places(empty(AutoModelForCausalLM, folder, intermediate_size=50), stored) is None


def test_a_parameter_without_initial_values_is_refused(saved: Callable[..., Path]) -> None:
    model = empty(AutoModelForCausalLM, saved("llama"))
    for layer in model.model.layers:
        layer.mlp.scale = torch.nn.Parameter(torch.empty(3, device="meta"))
    with pytest.raises(
        UserError, match=r"llama gives no initial values to 1 of its parameters: model\.layers\.0\.mlp\.scale"
    ):
        initialize(model, torch.float32)


def test_fresh_values_are_those_that_transformers_draws(saved: Callable[..., Path]) -> None:
    model = empty(AutoModelForCausalLM, saved("llama"), tie_word_embeddings=True)
    initialize(model, torch.float32)
    assert model.lm_head.weight is model.model.embed_tokens.weight
    assert not any(parameter.isnan().any() for parameter in model.parameters())
    assert model.model.layers[0].mlp.up_proj.weight.std().item() == pytest.approx(
        model.config.initializer_range, rel=0.2
    )
    assert (model.model.norm.weight == 1).all()
