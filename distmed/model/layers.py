"""The sizes of a model's attention, layer by layer: in some architectures (Gemma 4) layers differ in heads and head size.

A configuration flows in, numbers flow out.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from transformers import PreTrainedConfig


def attention_widths(config: PreTrainedConfig) -> list[int]:
    """Heads times head size, of each layer."""
    return [
        layer.num_attention_heads * (getattr(layer, "head_dim", None) or layer.hidden_size // layer.num_attention_heads)
        for layer in config.get_text_config().per_layer_config
    ]


def key_value_heads(config: PreTrainedConfig) -> int:
    """The heads of keys and values: of all layers what divides each, so that whoever divides it divides them all."""
    return math.gcd(
        *(
            int(getattr(layer, "num_key_value_heads", 0) or getattr(layer, "num_attention_heads", 1))
            for layer in config.get_text_config().per_layer_config
        )
    )
