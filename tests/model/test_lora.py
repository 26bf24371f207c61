"""Adapters: what trains, what is refused, and that they come out merged or alone as the model they were in."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from distmed.checkpoint.publish import export_checkpoint, known_dtype
from distmed.errors import UserError
from distmed.model.diagnoser import Diagnoser
from distmed.model.folder import check_model
from distmed.model.load import load_model
from distmed.model.lora import freeze, scale
from distmed.recipe import Lora, Model, Recipe
from distmed.train.resume import Saved, check_same_scale
from tests.checkpoint import make

CPU = torch.device("cpu")
LABELS = ["a", "b", "c"]
KINDS: dict[str, dict[str, Any]] = {
    "plain": {},
    "rank-stabilized": {"rank_stabilized": True},
    "dora": {"dora": True},
    "some": {"targets": ["q_proj", "down_proj"]},
    "pattern": {"targets": r".*layers\.1\..*proj"},
}
Make = Callable[..., Any]


def trained(recipe: Recipe, folder: Path) -> Diagnoser:
    """A model whose adapters, norms and head have moved from where they began."""
    model = load_model(recipe, folder, LABELS, LABELS, {}, CPU)
    torch.manual_seed(7)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(torch.randn_like(parameter) * 0.3)
    return model.eval()


def saved_checkpoint(model: Diagnoser, recipe: Recipe, folder: Path, out: Path) -> str:
    """As a run on two workers leaves it."""
    named = dict(model.named_parameters())
    lora = recipe.model.lora
    assert lora is not None
    state = {
        "model": {
            "folder": str(folder),
            "dtype": "float32",
            "config": {**model.network.config.to_dict(), "architectures": [type(model.network).__name__]},
            "lora": lora.model_dump(mode="json"),
            "lora_scale": scale(lora),
        },
        "run": {"step": 10},
    }
    return make.write(
        out,
        10,
        trained={name: p.detach() for name, p in named.items() if p.requires_grad},
        frozen={name: p.detach() for name, p in named.items() if not p.requires_grad},
        state=state,
    )


@torch.no_grad()
def logits(model: Any) -> Tensor:
    found: Tensor = model.eval()(input_ids=torch.tensor([[5, 6, 7, 8, 9]])).logits
    return found


@pytest.mark.parametrize("task", ["generate", "classify"])
@pytest.mark.parametrize("kind", KINDS)
def test_merged_or_alone_adapters_give_the_trained_models_logits(
    kind: str, task: str, saved: Make, recipe: Make, tmp_path: Path
) -> None:
    import transformers
    from peft import PeftModel

    folder = saved("llama", "generate")
    made = recipe(folder, task, lora={"rank": 4, "alpha": 6, **KINDS[kind]})
    model = trained(made, folder)
    checkpoint = saved_checkpoint(model, made, folder, tmp_path / "run" / "checkpoints")
    (tmp_path / "run" / "recipe.yaml").write_text(made.to_yaml())
    auto = getattr(transformers, "AutoModelForCausalLM" if task == "generate" else "AutoModelForSequenceClassification")
    options = {} if task == "generate" else {"num_labels": len(LABELS)}

    export_checkpoint(checkpoint, tmp_path / "merged")
    torch.testing.assert_close(
        logits(auto.from_pretrained(tmp_path / "merged")), logits(model.hf), rtol=1e-4, atol=1e-4
    )

    export_checkpoint(checkpoint, tmp_path / "alone", adapters=True)
    base = auto.from_pretrained(folder, pad_token_id=model.network.config.pad_token_id, **options)
    alone = PeftModel.from_pretrained(base, str(tmp_path / "alone"))
    torch.testing.assert_close(logits(alone), logits(model.hf), rtol=1e-4, atol=1e-4)
    files = {path.name for path in (tmp_path / "alone").iterdir()}
    assert files == {"adapter_model.safetensors", "adapter_config.json", "README.md"}
    assert "library_name: peft" in (tmp_path / "alone" / "README.md").read_text()


@pytest.mark.parametrize("dtype", ["bf16", "fp16", "float32"])
def test_an_export_has_the_type_that_was_asked_for(dtype: str, saved: Make, recipe: Make, tmp_path: Path) -> None:
    from safetensors.torch import load_file

    folder = saved("llama", "generate")
    made = recipe(folder, "generate", lora={"rank": 2})
    checkpoint = saved_checkpoint(trained(made, folder), made, folder, tmp_path)
    export_checkpoint(checkpoint, tmp_path / "out", dtype=known_dtype(dtype))
    wanted = {"bf16": torch.bfloat16, "fp16": torch.float16, "float32": torch.float32}[dtype]
    assert {tensor.dtype for tensor in load_file(tmp_path / "out" / "model.safetensors").values()} == {wanted}


def test_an_unknown_type_is_refused() -> None:
    with pytest.raises(UserError, match="--dtype: int4"):
        known_dtype("int4")


def test_only_adapters_and_the_head_are_trained(saved: Make, recipe: Make) -> None:
    folder = saved("llama", "generate")
    model = load_model(recipe(folder, lora={"rank": 2}), folder, LABELS, LABELS, {}, CPU)
    names = [name for name, parameter in model.named_parameters() if parameter.requires_grad]
    assert all(".lora_" in name or ".modules_to_save." in name for name in names)
    assert any("score" in name for name in names)


def test_rank_stabilized_scale_does_not_vanish_with_the_rank() -> None:
    assert scale(Lora(rank=64, alpha=32)) == 0.5
    assert scale(Lora(rank=64, alpha=32, rank_stabilized=True)) == 4.0


def test_adapters_are_not_resumed_at_another_scale() -> None:
    def saved(**model: Any) -> Saved:
        return Saved("runs/a/checkpoints/step-00000010-w0001-a00", {"model": model})

    begun = Lora(rank=16, alpha=32)
    check_same_scale(saved(lora_scale=scale(begun)), begun.model_copy(update={"dropout": 0.1}))
    check_same_scale(saved(lora_scale=None), None)
    check_same_scale(saved(), begun)  # of an earlier version
    for change in ({"alpha": 16.0}, {"rank_stabilized": True}):
        with pytest.raises(UserError, match=r"were trained at a scale of 2, and model\.lora has one of") as refused:
            check_same_scale(saved(lora_scale=scale(begun)), begun.model_copy(update=change))
        assert "model.lora.alpha" in refused.value.hint


@pytest.mark.parametrize("targets", [["nothing"], "no_such_.*"])
def test_targets_that_match_nothing_are_told_with_the_linear_layers(targets: Any, saved: Make) -> None:
    model = Model(path=str(saved("llama")), lora=Lora(targets=targets))
    with pytest.raises(UserError) as error:
        check_model(model, "generate", packing=True)
    assert "model.lora.targets" in error.value.message
    for layer in ("self_attn.q_proj", "mlp.down_proj"):
        assert layer in error.value.hint


@pytest.mark.parametrize("targets", ["all-linear", ["q_proj"], r".*\.down_proj", ["layers.0.mlp.up_proj"]])
def test_targets_that_match_are_taken(targets: Any, saved: Make) -> None:
    check_model(Model(path=str(saved("llama")), lora=Lora(targets=targets)), "generate", packing=True)


@pytest.mark.parametrize("targets", [["q_proj", "lm_head"], r".*(q_proj|lm_head)", ["q_proj", "embed_tokens"]])
def test_adapters_that_no_export_could_merge_are_refused(
    targets: Any, saved: Make, recipe: Make, tmp_path: Path
) -> None:
    tied = saved("llama", tie_word_embeddings=True)
    with pytest.raises(UserError, match=r"(lm_head|embed_tokens) .*, with which no adapter can be merged"):
        check_model(Model(path=str(tied), lora=Lora(targets=targets)), "generate", packing=True)
    if "embed_tokens" not in targets:
        untied = saved("llama", tie_word_embeddings=False)
        check_model(Model(path=str(untied), lora=Lora(targets=targets)), "generate", packing=True)
        # A checkpoint from before this was refused.
        made = recipe(tied, "generate", lora={"rank": 2, "targets": targets})
        checkpoint = saved_checkpoint(trained(made, tied), made, tied, tmp_path)
        with pytest.raises(UserError, match="adapter of lm_head has no weight to be merged with") as refused:
            export_checkpoint(checkpoint, tmp_path / "out")
        assert "--adapters" in refused.value.hint


def test_frozen_patterns_are_not_trained(saved: Make, recipe: Make) -> None:
    folder = saved("llama", "generate")
    patterns = ["*embed_tokens*", "*.layers.0.*"]
    model = load_model(recipe(folder, freeze=patterns), folder, LABELS, LABELS, {}, CPU)
    frozen = {name for name, parameter in model.named_parameters() if not parameter.requires_grad}
    assert frozen == {n for n, _ in model.named_parameters() if "embed_tokens" in n or ".layers.0." in n}
    assert frozen


def test_a_pattern_that_fits_nothing_and_one_that_fits_all_are_refused(tiny: Make) -> None:
    with pytest.raises(UserError, match=r"no parameter is called \*\.layer\.9"):
        freeze(tiny("llama"), ["*.layer.9"])
    with pytest.raises(UserError, match="nothing is left to train"):
        freeze(tiny("llama"), ["*"])


def with_more_tokens(folder: Path) -> Path:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.add_tokens(["[rash]", "[fever]"])
    tokenizer.save_pretrained(folder)
    return folder


@pytest.mark.parametrize("tied", [True, False])
def test_an_embedding_grows_with_the_tokenizer(tied: bool, saved: Make, recipe: Make) -> None:
    small = saved("llama", "generate", vocab_size=300, tie_word_embeddings=tied)
    before = load_model(recipe(small, "generate"), small, [], [], {}, CPU).network
    folder = with_more_tokens(small)
    after = load_model(recipe(folder, "generate"), folder, [], [], {}, CPU).network
    rows = after.get_input_embeddings().weight
    assert len(rows) == after.config.vocab_size > 300
    assert torch.equal(rows[:300], before.get_input_embeddings().weight[:300])
    assert (after.get_output_embeddings().weight is rows) == tied


def test_adapters_refuse_tokens_that_they_would_not_train(saved: Make) -> None:
    folder = with_more_tokens(saved("llama", "generate", vocab_size=300))
    with pytest.raises(UserError, match="adapters would not train new ones"):
        check_model(Model(path=str(folder), lora=Lora()), "generate", packing=True)
