"""Low-rank adapters beside frozen weights (Hu et al. 2021, arXiv:2106.09685), through peft.

A Hugging Face model and the recipe's `model.lora` flow in, the wrapped model flows out; a head is trained in full.
"""

from __future__ import annotations

from typing import Any

from distmed.recipe import Lora


def with_lora(hf: Any, lora: Lora, trained_in_full: set[str]) -> Any:
    """Freeze `hf` but for adapters on its linear layers, and the modules whose parameters `trained_in_full` names."""
    from peft import LoraConfig, get_peft_model

    config = LoraConfig(
        r=lora.rank,
        lora_alpha=lora.alpha,  # type: ignore[arg-type]
        lora_dropout=lora.dropout,
        target_modules=lora.targets,
        modules_to_save=sorted({name.rpartition(".")[0] for name in trained_in_full}) or None,
    )
    # Adapters in float32 beside a bf16 base would stop ZeRO-3, which wants one dtype.
    return get_peft_model(hf, config, autocast_adapter_dtype=False)
