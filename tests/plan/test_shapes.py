"""Sizes from a config alone: they are those of the real model, and its activations those that a real pass keeps."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForSequenceClassification, PreTrainedConfig

from distmed.errors import UserError
from distmed.model.diagnoser import Diagnoser
from distmed.plan.shapes import LABELS, shape_of
from distmed.recipe import Lora, Recipe
from distmed.recipe_file import check
from distmed.stream.batch import Item, collate

SMALL = {
    "vocab_size": 101,
    "hidden_size": 32,
    "intermediate_size": 72,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
}
SEQ_LEN = 64


def recipe(task: str) -> Recipe:
    data = {"train": [{"source": "none"}], "seq_len": SEQ_LEN}
    return check({"name": "a", "task": task, "model": {"path": "a"}, "data": data})


def small(model_type: str, **changes: Any) -> PreTrainedConfig:
    return AutoConfig.for_model(model_type, **{**SMALL, "pad_token_id": 0, **changes})


def measured(config: PreTrainedConfig, task: str, **changes: Any) -> Any:
    values: dict[str, Any] = {"bf16": False, "lora": None, "checkpointing": False, "seq_len": SEQ_LEN}
    return shape_of(config, recipe(task), **{**values, **changes})


def real(config: PreTrainedConfig, task: str) -> Diagnoser:
    if task == "classify":
        config.num_labels = LABELS
        return Diagnoser(AutoModelForSequenceClassification.from_config(config))
    return Diagnoser(AutoModelForCausalLM.from_config(config))


@pytest.mark.parametrize(
    ("config", "task"),
    [
        (small("llama", num_key_value_heads=2), "generate"),
        (small("llama", tie_word_embeddings=True), "generate"),
        (small("qwen2", num_key_value_heads=2), "classify"),
        (small("bert"), "classify"),
    ],
    ids=["llama", "tied", "qwen2", "bert"],
)
def test_parameters_are_those_of_the_model(config: PreTrainedConfig, task: str) -> None:
    shape = measured(config, task)
    assert shape.total == shape.trainable == sum(p.numel() for p in real(config, task).parameters())
    assert shape.layers == 3


@pytest.mark.parametrize(
    ("model_type", "task"),
    [
        ("gemma2", "classify"),
        ("gemma2", "generate"),
        ("phi", "generate"),
        ("gpt_neox", "classify"),
        ("olmo2", "generate"),
        ("mixtral", "generate"),
        ("electra", "classify"),
        ("albert", "classify"),
    ],
)
def test_architectures_that_train_one_case_a_row_are_planned_too(model_type: str, task: str) -> None:
    config = small(model_type, bos_token_id=1, eos_token_id=2)
    shape = measured(config, task, bf16=True)
    assert shape.total == sum(p.numel() for p in real(config, task).parameters())
    assert shape.saved > 0


def test_of_a_mixture_a_token_is_multiplied_with_the_experts_it_is_sent_to() -> None:
    experts = 3 * 8 * 3 * 32 * 72  # layers, experts, gate and up and down
    mixed = measured(small("mixtral", num_local_experts=8, num_experts_per_tok=2), "generate", bf16=True)
    whole = measured(small("mixtral", num_local_experts=8, num_experts_per_tok=8), "generate", bf16=True)
    assert whole.multiplied - mixed.multiplied == experts * 6 // 8
    assert whole.total == mixed.total


def test_what_has_no_head_for_the_task_is_refused() -> None:
    with pytest.raises(UserError, match="transformers has no granite with a classification head"):
        measured(small("granite"), "classify")


def test_only_adapters_and_a_classification_head_are_trained() -> None:
    config = small("llama")
    shape = measured(config, "classify", lora=Lora(rank=2))
    adapters = sum(2 * (i + o) for i, o in [(32, 32)] * 4 + [(32, 72)] * 3) * 3
    assert shape.trainable == adapters + LABELS * 32


@pytest.mark.parametrize("task", ["classify", "generate"])
@pytest.mark.parametrize("model_type", ["llama", "bert"])
def test_what_waits_for_the_backward_pass_is_what_a_real_pass_keeps(model_type: str, task: str) -> None:
    if (model_type, task) == ("bert", "generate"):
        pytest.skip("no such model")
    config = small(model_type, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)
    model = real(config, task).train()
    items = [Item(torch.randint(5, 100, (SEQ_LEN // 2,)).int().numpy(), 1, 0, 1.0, "", n) for n in range(2)]
    batch = collate([items], seq_len=SEQ_LEN, pad_id=0, targets=task == "generate")
    weights = {p.untyped_storage().data_ptr() for p in [*model.parameters(), *model.buffers()]}
    kept: dict[int, int] = {}

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        out = model(batch)
    # The logits of targets are left to the loss.
    beside = out.nbytes + sum(size for size in kept.values() if size == SEQ_LEN * 101 * 4)
    assert out.requires_grad
    assert measured(config, task).saved == pytest.approx(sum(kept.values()), rel=0.12, abs=beside)


def test_recomputation_keeps_a_fraction() -> None:
    config = small("llama", num_hidden_layers=8)
    plain, recomputed = (measured(config, "generate", checkpointing=on) for on in (False, True))
    assert recomputed.saved < plain.saved / 4
    assert recomputed.peak < plain.peak / 2
    assert recomputed.total == plain.total


def test_half_the_bytes_in_bf16() -> None:
    config = small("llama", hidden_size=64, intermediate_size=512)
    assert measured(config, "generate", bf16=True).saved < 0.65 * measured(config, "generate").saved


@pytest.mark.parametrize("model_type", ["llama", "qwen2"])
@pytest.mark.parametrize("task", ["generate", "classify"])
def test_decoders_that_are_not_packed_are_measured_without_a_mask(model_type: str, task: str) -> None:
    packed = recipe(task)
    unpacked = packed.model_copy(update={"data": packed.data.model_copy(update={"packing": False})})
    options: dict[str, Any] = {"bf16": False, "lora": None, "checkpointing": False, "seq_len": SEQ_LEN}
    config = small(model_type, num_key_value_heads=2)
    assert 0 < shape_of(config, unpacked, **options).saved <= shape_of(config, packed, **options).saved


def test_an_mlp_in_tiles_needs_less_at_its_peak() -> None:
    config = small("llama", intermediate_size=2048)
    plain = recipe("generate")
    tiled = plain.model_copy(update={"train": plain.train.model_copy(update={"mlp_tiles": 8})})
    options: dict[str, Any] = {"bf16": False, "lora": None, "checkpointing": True, "seq_len": 8 * SEQ_LEN}
    assert shape_of(config, tiled, **options).peak < shape_of(config, plain, **options).peak / 2


def test_linear_layers_below_adapters_can_be_packed() -> None:
    shape = measured(small("llama"), "generate", lora=Lora(rank=2))
    assert shape.packable == 3 * (4 * 32 * 32 + 3 * 32 * 72)
    assert shape.largest_packable == 32 * 72


@pytest.mark.parametrize(("model_type", "whole"), [("llama", False), ("olmo2", True), ("qwen3_moe", True)])
def test_whole_logits_of_other_architectures_are_among_the_activations(model_type: str, whole: bool) -> None:
    """Those that were not tested for packing go through transformers' own forward pass, which gives logits of all tokens."""
    config = small(
        model_type,
        vocab_size=5000,
        num_key_value_heads=2,
        head_dim=8,
        moe_intermediate_size=16,
        num_experts=4,
        num_experts_per_tok=2,
    )
    shape = measured(config, "generate", bf16=True)
    logits = SEQ_LEN * 5000
    # Logarithms of shares wait in fp32; while they are made the logits are there in bf16 and in fp32.
    assert (shape.saved > 4 * logits) is whole
    assert (shape.peak > (4 + 4 + 2) * logits) is whole
    # What a loss in chunks needs is reckoned by `memory`, from the vocabulary.
    assert shape.vocabulary == (0 if whole else 5000)


@pytest.mark.parametrize("kernel", ["flash2", "flex"])
def test_kernels_that_know_where_cases_end_need_no_table_of_tokens_by_tokens(kernel: str) -> None:
    config = small("llama", hidden_size=8, intermediate_size=8)
    plain = recipe("generate")
    other = plain.model_copy(update={"model": plain.model.model_copy(update={"attention": kernel})})
    unpacked = plain.model_copy(update={"data": plain.data.model_copy(update={"packing": False})})
    options: dict[str, Any] = {"bf16": True, "lora": None, "checkpointing": True, "seq_len": 32 * SEQ_LEN}
    masked, without, alone = (shape_of(config, each, **options) for each in (plain, other, unpacked))
    assert without.peak == alone.peak < masked.peak - (32 * SEQ_LEN) ** 2


def test_attention_whose_values_are_narrower_than_its_queries_is_planned() -> None:
    """Multi-head latent attention (DeepSeek-V2, arXiv:2405.04434)."""
    config = small(
        "deepseek_v3",
        num_key_value_heads=4,
        moe_intermediate_size=16,
        n_routed_experts=4,
        n_group=2,
        topk_group=1,
        num_experts_per_tok=2,
        kv_lora_rank=16,
        q_lora_rank=16,
        qk_rope_head_dim=8,
        qk_nope_head_dim=16,
        v_head_dim=12,
    )
    assert measured(config, "generate", bf16=True).saved > 0


def test_layers_that_differ_in_head_size_are_planned_by_their_mean() -> None:
    """The last of three layers has heads of 64, the others of 16 (Gemma 4)."""
    config = small(
        "gemma4_text",
        num_key_value_heads=2,
        head_dim=16,
        global_head_dim=64,
        layer_types=["sliding_attention", "sliding_attention", "full_attention"],
        vocab_size_per_layer_input=101,
        hidden_size_per_layer_input=16,
        num_kv_shared_layers=0,
    )
    shape = measured(config, "generate", bf16=True)
    assert shape.attention_width == 4 * (16 + 16 + 64) // 3
    assert shape.saved > 0
