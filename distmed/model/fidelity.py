"""Models that would be trained as something else than they are: what their files say in two ways, or say and we do not do.

A model folder and its configuration flow in; nothing flows out but a UserError.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from distmed.errors import UserError
from distmed.model.families import FAMILIES

if TYPE_CHECKING:
    from transformers import PreTrainedConfig

    from distmed.model.folder import ModelFacts
    from distmed.recipe import Recipe


def check_reads_one_way(folder: Path, config: PreTrainedConfig) -> None:
    """Raises UserError for a decoder that was made to see both ways: it would be trained, and packed, as one that does not."""
    family = FAMILIES.get(config.model_type)
    text = config.get_text_config()
    both_ways = getattr(text, "use_bidirectional_attention", None) or getattr(text, "is_causal", None) is False
    if family is not None and family.causal and both_ways:
        raise UserError(
            f"{folder}: its config.json has a {config.model_type} model see both ways, and here it would see what is before",
            "choose an encoder (BERT, RoBERTa, ...), or a decoder that reads from left to right",
        )


def quantized_by(config: PreTrainedConfig) -> str | None:
    """The method by which the weights in the folder were quantized, None if they were not."""
    for part in (config, config.get_text_config()):
        how = getattr(part, "quantization_config", None)
        if how is not None:
            return str(how.get("quant_method", "a method without a name"))
    return None


def check_trainable(facts: ModelFacts) -> None:
    """Raises UserError for quantized weights: they would not be trained, nor would an export know how to write them."""
    if facts.quantized is not None:
        raise UserError(
            f"{facts.folder}: its weights are quantized already ({facts.quantized}), and so they cannot be trained",
            "name the model in bf16 or fp32 that it was made from; under model.lora, model.quantize=nf4 holds it in 4 bits",
        )


def turning_point(text: PreTrainedConfig) -> int | None:
    """The length of a case from which longrope (Phi-3) turns positions by other factors, and with them all cases beside it."""
    rope: dict[str, Any] = getattr(text, "rope_parameters", None) or {}
    by_layer = [layer for layer in rope.values() if isinstance(layer, dict)] or [rope]
    lengths = [layer["original_max_position_embeddings"] for layer in by_layer if layer.get("rope_type") == "longrope"]
    return min(lengths, default=None)


def check_cases_apart(recipe: Recipe, facts: ModelFacts) -> None:
    """Raises UserError where the length of one case would decide how the model sees another, or a part how it sees a whole."""
    sharers = recipe.cluster.sequence_parallel
    together = recipe.train.micro_batch > 1 or recipe.data.packing or sharers > 1
    if facts.turns_at is not None and recipe.data.seq_len > facts.turns_at and together:
        raise UserError(
            f"data.seq_len={recipe.data.seq_len}: a case of more than {facts.turns_at} tokens changes what {facts.folder} sees "
            "of all cases beside it (longrope)",
            f"set data.seq_len={facts.turns_at} or less, or each case alone: data.packing=false, train.micro_batch=1"
            + (", cluster.sequence_parallel=1" if sharers > 1 else ""),
        )


def check_tied(folder: Path, files: list[Path], network: Any) -> None:
    """Raises UserError where a layer that the configuration ties to another is stored with other values.

    `files`: the folder's safetensors. `network`: the architecture, whose parameters need no data.
    """
    import torch
    from safetensors import safe_open

    file_of: dict[str, Path] = {}
    for path in files:
        with safe_open(path, framework="pt") as file:
            file_of |= dict.fromkeys(file.keys(), path)

    def read(name: str) -> torch.Tensor:
        with safe_open(file_of[name], framework="pt") as file:
            return file.get_tensor(name)

    # Code that comes with a model may still list names alone, as transformers once did.
    ties = network._tied_weights_keys if isinstance(network._tied_weights_keys, dict) else {}
    for tied, to in ties.items():
        if tied in file_of and to in file_of and not torch.equal(read(tied), read(to)):
            raise UserError(
                f"{folder}: its config.json ties {tied} to {to}, and its weights have both, which differ",
                "set tie_word_embeddings to false in its config.json to train both, or take the one that is not meant out",
            )
