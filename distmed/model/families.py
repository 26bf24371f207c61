"""The architectures whose packed logits were tested against plain transformers, and how each pools a case.

A `model_type` of config.json flows in, a `Family` flows out. An architecture that is not listed still trains, one case
a row, through its own forward pass.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from torch import Tensor

# C: cases, D: hidden size, K: labels.
Head = Callable[[Any, "Tensor"], "Tensor"]


def _bert(hf: Any, first_C1D: Tensor) -> Tensor:
    pooled_CD = hf.bert.pooler(first_C1D)
    return hf.classifier(hf.dropout(pooled_CD))


def _distilbert(hf: Any, first_C1D: Tensor) -> Tensor:
    pooled_CD = hf.pre_classifier(first_C1D[:, 0]).relu()
    return hf.classifier(hf.dropout(pooled_CD))


def _classification_head(hf: Any, first_C1D: Tensor) -> Tensor:
    return hf.classifier(first_C1D)


def _score(hf: Any, last_C1D: Tensor) -> Tensor:
    return hf.score(last_C1D[:, 0])


@dataclass(frozen=True)
class Family:
    """How one architecture sees positions and masks, and how it gets from token states to the logits of a case.

    `pools` names the token a case is read at; `head` takes the model and that token's state [C, 1, D] to logits [C, K].
    `masks_by_layer`: the backbone takes a mapping from layer type to mask (sliding and full attention side by side).
    `position_offset`: positions of a case start at padding_idx + 1 instead of 0. `sdpa`: whether it has attention of that name.
    """

    pools: Literal["first", "last"]
    head: Head
    masks_by_layer: bool = False
    position_offset: bool = False
    sdpa: bool = True

    @property
    def causal(self) -> bool:
        return self.pools == "last"


ROBERTA = Family("first", _classification_head, position_offset=True)
DECODER = Family("last", _score)
HYBRID_DECODER = Family("last", _score, masks_by_layer=True)

FAMILIES: dict[str, Family] = {
    "bert": Family("first", _bert),
    "distilbert": Family("first", _distilbert),
    "electra": Family("first", _classification_head),
    "roberta": ROBERTA,
    "camembert": ROBERTA,
    "xlm-roberta": ROBERTA,
    "llama": DECODER,
    "mistral": DECODER,
    "phi3": DECODER,
    "gemma": DECODER,
    "gemma2": Family("last", _score, masks_by_layer=True, sdpa=False),
    "gemma3_text": HYBRID_DECODER,
    "qwen2": HYBRID_DECODER,
    "qwen3": HYBRID_DECODER,
}
