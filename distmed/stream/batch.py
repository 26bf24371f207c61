"""What a step is made of: micro-batches of packed sequences, and how cases become one.

Token ids of cases flow in, tensors flow out. Shapes: B sequences, L padded length, C cases in the micro-batch, T target tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

MULTIPLE = 8
"""Rows are padded to a multiple of this: tensor cores and oneDNN like it."""


class Item(NamedTuple):
    """A case of a sequence: its ids, cut to fit; where its targets start; its class (-1: none) and its weight in the loss."""

    ids: NDArray[np.int32]
    start: int
    label: int
    weight: float
    case_id: str
    number: int


@dataclass(frozen=True)
class MicroBatch:
    """B sequences as tensors. Flat indices are row * L + column.

    `segment_ids_BL` is 0 for padding, n for the n-th case of its row; `position_ids_BL` start at 0 in each case.
    `target_index_T` are positions whose next token, `target_ids_T`, is a target (generate, else both None).
    `case_weight_C` is 0 where there is no label. `case_number_C` is the case's place in its data. `masked`: a stand-in, to
    be run with its loss times 0.
    """

    input_ids_BL: Tensor
    position_ids_BL: Tensor
    segment_ids_BL: Tensor
    target_index_T: Tensor | None
    target_ids_T: Tensor | None
    case_last_C: Tensor
    case_first_C: Tensor
    case_label_C: Tensor
    case_weight_C: Tensor
    case_ids: list[str]
    case_number_C: Tensor
    masked: bool

    def to(self, device: torch.device | str) -> MicroBatch:
        return self._with({name: tensor.to(device, non_blocking=True) for name, tensor in self._tensors().items()})

    def pin_memory(self) -> MicroBatch:
        """A copy that a GPU can fetch while it computes."""
        return self._with({name: tensor.pin_memory() for name, tensor in self._tensors().items()})

    def _tensors(self) -> dict[str, Tensor]:
        return {name: value for name, value in vars(self).items() if isinstance(value, Tensor)}

    def _with(self, changes: dict[str, Any]) -> MicroBatch:
        return replace(self, **changes)


@dataclass(frozen=True)
class Step:
    """This worker's share of sequences k … next_k-1, and facts about the whole global batch.

    `denominator` is its number of target tokens (generate) or sum of case weights (classify); `tokens` and `cases` are the real
    ones; `epoch` is how many epochs are done after it, `epochs` how many of every source.
    """

    micro_batches: list[MicroBatch]
    denominator: float
    tokens: int
    cases: int
    epoch: float
    epochs: list[float]
    k: int
    next_k: int


def collate(
    rows: Sequence[Sequence[Item]], *, seq_len: int, pad_id: int, targets: bool, masked: bool = False
) -> MicroBatch:
    """One tensor row a sequence, its cases side by side; as long as the longest, rounded up to 8 but within seq_len."""
    longest = max(sum(len(item.ids) for item in row) for row in rows)
    length = min(-(-longest // MULTIPLE) * MULTIPLE, seq_len)
    shape = (len(rows), length)
    ids, positions = np.full(shape, pad_id, dtype=np.int64), np.zeros(shape, dtype=np.int64)
    segments = np.zeros(shape, dtype=np.int32)
    count_to = np.arange(length)
    first, last, index, next_ids = [], [], [], []
    for r, row in enumerate(rows):
        begin = 0
        for n, item in enumerate(row, start=1):
            size = len(item.ids)
            end = begin + size
            ids[r, begin:end] = item.ids
            positions[r, begin:end] = count_to[:size]
            segments[r, begin:end] = n
            first.append(r * length + begin)
            last.append(r * length + end - 1)
            if targets and item.start < size:
                index.append(r * length + begin + count_to[item.start - 1 : size - 1])
                next_ids.append(item.ids[item.start :])
            begin = end
    items = [item for row in rows for item in row]
    return MicroBatch(
        input_ids_BL=torch.from_numpy(ids),
        position_ids_BL=torch.from_numpy(positions),
        segment_ids_BL=torch.from_numpy(segments),
        target_index_T=torch.from_numpy(np.concatenate(index)) if targets else None,
        target_ids_T=torch.from_numpy(np.concatenate(next_ids).astype(np.int64)) if targets else None,
        case_last_C=torch.tensor(last),
        case_first_C=torch.tensor(first),
        case_label_C=torch.tensor([item.label for item in items]),
        case_weight_C=torch.tensor([item.weight for item in items], dtype=torch.float32),
        case_ids=[item.case_id for item in items],
        case_number_C=torch.tensor([item.number for item in items]),
        masked=masked,
    )


def stand_in(*, seq_len: int, pad_id: int, targets: bool) -> MicroBatch:
    """The least that a model can run on, for a worker that has no sequence left while others have."""
    nothing = Item(np.full(2, pad_id, dtype=np.int32), 1, 0, 0.0, "stand-in", -1)
    return collate([[nothing]], seq_len=seq_len, pad_id=pad_id, targets=targets, masked=True)
