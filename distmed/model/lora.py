"""Low-rank adapters beside frozen weights (Hu et al. 2021, arXiv:2106.09685), through peft, and freezing by pattern.

A Hugging Face model and the recipe's `model` section flow in, the model with what is to be trained flows out; a head is
trained in full.
"""

from __future__ import annotations

import re
from fnmatch import fnmatchcase
from typing import Any

from torch import nn

from distmed.errors import UserError, one_of
from distmed.recipe import Lora

ALL_LINEAR = "all-linear"


def with_lora(hf: Any, lora: Lora, trained_in_full: set[str]) -> Any:
    """Freeze `hf` but for adapters on its linear layers, and the modules whose parameters `trained_in_full` names.

    Under ZeRO-3 the weights may be partitioned already.
    """
    from peft import LoraConfig, get_peft_model

    config = LoraConfig(
        r=lora.rank,
        lora_alpha=lora.alpha,  # type: ignore[arg-type]
        lora_dropout=lora.dropout,
        use_rslora=lora.rank_stabilized,
        use_dora=lora.dora,
        target_modules=lora.targets,
        modules_to_save=sorted({name.rpartition(".")[0] for name in trained_in_full}) or None,
    )
    # Adapters in float32 beside a bf16 base would stop ZeRO-3, which wants one dtype.
    wrapped = get_peft_model(hf, config, autocast_adapter_dtype=False)
    if lora.dora:
        _gather_for_dora(wrapped)
    return wrapped


def scale(lora: Lora) -> float:
    """What B · A is multiplied with: alpha / rank or, stabilized, alpha / √rank (arXiv:2312.03732)."""
    return lora.alpha / (lora.rank**0.5 if lora.rank_stabilized else lora.rank)


def _gather_for_dora(hf: nn.Module) -> None:
    """DoRA's own module reads the weight of the layer beside it, which ZeRO-3 has to be told."""
    for module in hf.modules():
        weight = getattr(getattr(module, "base_layer", None), "weight", None)
        if not hasattr(weight, "ds_id"):
            continue
        import deepspeed

        for inner in getattr(module, "lora_magnitude_vector", {}).values():
            deepspeed.zero.register_external_parameter(inner, weight)


def check_targets(network: nn.Module, lora: Lora) -> None:
    """Raises UserError if `model.lora.targets` names no linear layer of `network`, or one that no export could merge."""
    if lora.targets == ALL_LINEAR:
        return
    head: Any = network.get_output_embeddings()  # type: ignore[operator]
    tied = head is not None and head.weight is network.get_input_embeddings().weight  # type: ignore[operator]
    for name, module in network.named_modules():
        if (isinstance(module, nn.Embedding) or (tied and module is head)) and _is_target(name, lora.targets):
            what = "has the weight of the embedding" if module is head else "is an embedding"
            raise UserError(
                f"model.lora.targets: {name} {what}, with which no adapter can be merged",
                f"take it out of the targets, or use {ALL_LINEAR}",
            )
    linear = [name for name, module in network.named_modules() if isinstance(module, nn.Linear) and module is not head]
    if any(_is_target(name, lora.targets) for name in linear):
        return
    known = sorted({re.sub(r".*\.\d+\.", "", name) for name in linear})
    raise UserError(
        f"model.lora.targets: no linear layer is called {lora.targets}", f"use {ALL_LINEAR}, or some of {one_of(known)}"
    )


def _is_target(name: str, targets: str | list[str]) -> bool:
    """As peft matches: a pattern fits the whole name, one of several names its end."""
    if isinstance(targets, str):
        return re.fullmatch(targets, name) is not None
    return any(name == target or name.endswith(f".{target}") for target in targets)


def freeze(hf: nn.Module, patterns: list[str]) -> None:
    """Freeze the parameters whose names fit one of the shell patterns (`*.layers.0.*`).

    Raises UserError for a pattern that fits none, or if nothing is left to train.
    """
    names = [name for name, _ in hf.named_parameters()]
    for pattern in patterns:
        if not any(fnmatchcase(name, pattern) for name in names):
            known = sorted({re.sub(r"\.\d+\.", ".N.", name) for name in names})
            raise UserError(f"model.freeze: no parameter is called {pattern}", f"names are like {one_of(known, 6)}")
    freeze_matching(hf, patterns)
    if not any(parameter.requires_grad for parameter in hf.parameters()):
        raise UserError("model.freeze: nothing is left to train", "leave the head or some layers out of the patterns")


def freeze_matching(hf: nn.Module, patterns: list[str]) -> None:
    """As `freeze`, for a model that may lack what the patterns name."""
    for name, parameter in hf.named_parameters():
        if any(fnmatchcase(name, pattern) for pattern in patterns):
            parameter.requires_grad_(False)
