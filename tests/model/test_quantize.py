"""A base in 4 bits: what is packed, what products and gradients it gives, and that it comes out as what was trained."""

from __future__ import annotations

import importlib.util
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn import functional as F

from distmed.checkpoint.publish import export_checkpoint
from distmed.errors import UserError
from distmed.model.folder import check_model
from distmed.model.load import load_model
from distmed.model.quantize import NF4Linear, pack, unpack
from distmed.recipe import Lora, Model
from distmed.recipe_file import check
from distmed.train.deepspeed_config import resolve_config
from distmed.train.meter import FlopCount
from tests.model.test_lora import CPU, LABELS, logits, saved_checkpoint, trained
from tests.test_recipe import LEAST

Make = Callable[..., Any]
needs_bitsandbytes = pytest.mark.skipif(
    importlib.util.find_spec("bitsandbytes") is None,
    reason="bitsandbytes is not installed: pip install 'distmed[quant]'",
)
# A width that is no multiple of a block, so that blocks cross rows.
SHAPE = (56, 48)


@needs_bitsandbytes
def test_a_packed_weight_is_small_and_near_what_it_was() -> None:
    weight_OI = torch.randn(256, 512)
    packed = pack(weight_OI)
    assert sum(part.nbytes for part in packed) <= weight_OI.numel() * 4.2 / 8
    near = unpack(packed, (256, 512), torch.float32)
    assert (near - weight_OI).norm() / weight_OI.norm() < 0.1


@needs_bitsandbytes
def test_what_is_packed_does_not_depend_on_precision_or_threads() -> None:
    weight_OI = torch.randn(512, 512, dtype=torch.bfloat16)
    threads = torch.get_num_threads()
    packed = []
    for count, dtype in ((1, torch.bfloat16), (4, torch.float32)):
        torch.set_num_threads(count)
        packed.append(pack(weight_OI.to(dtype)))
    torch.set_num_threads(threads)
    assert all(torch.equal(one, other) for one, other in zip(*packed, strict=True))


@needs_bitsandbytes
def test_products_and_gradients_are_those_of_the_unpacked_weight() -> None:
    layer = NF4Linear(torch.randn(SHAPE), torch.nn.Parameter(torch.randn(SHAPE[0])))
    weight_OI = layer.weight
    for _ in range(2):
        x = torch.randn(2, 5, SHAPE[1], requires_grad=True)
        y = x.detach().clone().requires_grad_()
        layer(x).square().sum().backward()
        F.linear(y, weight_OI, layer.bias).square().sum().backward()
        torch.testing.assert_close(x.grad, y.grad, rtol=1e-5, atol=1e-5)
        with torch.no_grad():  # an evaluation in between changes nothing
            layer.eval()(x)
            layer.train()


@needs_bitsandbytes
def test_only_the_backbones_linear_layers_are_packed(saved: Make, recipe: Make) -> None:
    folder = saved("llama", "generate")
    model = load_model(recipe(folder, lora={"rank": 2}, quantize="nf4"), folder, LABELS, LABELS, {}, CPU)
    plain = load_model(recipe(folder, lora={"rank": 2}), folder, LABELS, LABELS, {}, CPU)
    packed = {name for name, module in model.named_modules() if isinstance(module, NF4Linear)}
    assert len(packed) == 3 * 7 and not any("score" in name for name in packed)
    names = [name for name, parameter in model.named_parameters() if parameter.requires_grad]
    assert names == [name for name, parameter in plain.named_parameters() if parameter.requires_grad]
    layers = [f"{name}.{part}" for name in packed for part in ("codes", "scales", "nested")]
    held = sum(model.get_parameter(name).nbytes for name in layers)
    in_bf16 = sum(2 * plain.get_parameter(f"{name}.weight").numel() for name in packed)
    assert held < 0.28 * in_bf16
    counted, known = FlopCount(model, 16), FlopCount(plain, 16)
    assert counted.weights == known.weights


@needs_bitsandbytes
@pytest.mark.parametrize("task", ["generate", "classify"])
@pytest.mark.parametrize("kind", [{}, {"dora": True}, {"targets": ["q_proj", "down_proj"]}])
def test_merged_it_gives_the_trained_models_logits(
    kind: dict[str, Any], task: str, saved: Make, recipe: Make, tmp_path: Path
) -> None:
    import transformers

    folder = saved("llama", "generate")
    made = recipe(folder, task, lora={"rank": 4, "alpha": 6, **kind}, quantize="nf4")
    model = trained(made, folder)
    checkpoint = saved_checkpoint(model, made, folder, tmp_path)
    auto = getattr(transformers, "AutoModelForCausalLM" if task == "generate" else "AutoModelForSequenceClassification")
    export_checkpoint(checkpoint, tmp_path / "merged")
    merged = auto.from_pretrained(tmp_path / "merged")
    torch.testing.assert_close(logits(merged), logits(model.hf), rtol=1e-4, atol=1e-4)
    export_checkpoint(checkpoint, tmp_path / "alone", adapters=True)
    assert (tmp_path / "alone" / "adapter_model.safetensors").is_file()


@needs_bitsandbytes
def test_another_base_is_not_merged_with(saved: Make, recipe: Make, tmp_path: Path, tiny: Make) -> None:
    folder = saved("llama", "generate")
    made = recipe(folder, "generate", lora={"rank": 2}, quantize="nf4")
    checkpoint = saved_checkpoint(trained(made, folder), made, folder, tmp_path)
    base = tiny("llama", "generate", vocab_size=400, pad_token_id=0)
    with torch.no_grad():
        # The same codes, other scales.
        base.model.layers[1].mlp.up_proj.weight.mul_(1.5)
    base.save_pretrained(folder)
    with pytest.raises(UserError, match=r"layers\.1\.mlp\.up_proj\.weight in .* is not the weight"):
        export_checkpoint(checkpoint, tmp_path / "merged")


def test_stage_3_is_refused(recipe: Make) -> None:
    made = check({**LEAST, "model": {"path": "m", "lora": {}, "quantize": "nf4"}})
    options: dict[str, Any] = {"world_size": 2, "bf16": False, "hidden_size": 8, "nvme_path": Path("nvme")}
    with pytest.raises(UserError, match="each worker would still hold the whole 4-bit base") as error:
        resolve_config(made, **options)
    assert "deepspeed=zero2" in error.value.hint
    resolve_config(made.model_copy(update={"deepspeed": "zero2"}), **options)


def test_without_adapters_or_trained_weights_it_is_refused() -> None:
    with pytest.raises(UserError, match="cannot be trained themselves") as error:
        check({**LEAST, "model": {"path": "m", "quantize": "nf4"}})
    assert error.value.hint == "add model.lora"
    with pytest.raises(UserError, match=r"model\.init=random gives it none"):
        check({**LEAST, "model": {"path": "m", "quantize": "nf4", "lora": {}, "init": "random"}})


def test_a_missing_bitsandbytes_is_told(saved: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name, *rest: None)
    with pytest.raises(UserError, match="bitsandbytes, which is not installed") as error:
        check_model(Model(path=str(saved("llama")), lora=Lora(), quantize="nf4"), "generate", packing=True)
    assert "distmed[quant]" in error.value.hint


@needs_bitsandbytes
def test_weights_that_are_renamed_are_refused(saved: Make, recipe: Make) -> None:
    from safetensors.torch import load_file, save_file

    folder = Path(shutil.copytree(saved("llama", "generate"), saved("llama").parent / "renamed"))
    tensors = load_file(folder / "model.safetensors")
    tensors["model.layers.0.mlp.gate_up_proj.weight"] = tensors.pop("model.layers.0.mlp.gate_proj.weight")
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(UserError, match="transformers renames or cuts"):
        load_model(recipe(folder, "generate", lora={}, quantize="nf4"), folder, [], [], {}, CPU)
