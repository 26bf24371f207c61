"""Mixtures of experts: every weight is held and trained, but a token is multiplied with those of a few experts only."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from transformers import PreTrainedConfig


def multiplied(elements: int, shape: Sequence[int], config: PreTrainedConfig) -> int:
    """How many of the `elements` of a weight one token is multiplied with.

    transformers stacks the weights of all experts, [experts, out, in]; `num_experts_per_tok` of them see the token.
    """
    text = config.get_text_config()
    experts = getattr(text, "num_local_experts", None) or getattr(text, "num_experts", None)
    chosen = getattr(text, "num_experts_per_tok", None)
    if not experts or not chosen or len(shape) != 3 or shape[0] != experts:
        return elements
    return elements * int(chosen) // int(experts)
