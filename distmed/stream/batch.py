"""What a step is made of: micro-batches of packed sequences, and how cases become one.

Token ids of cases flow in, tensors flow out. Shapes: B sequences, L padded length, C cases in the micro-batch, T target tokens.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
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


class Cases(NamedTuple):
    """The columns of C cases, the tokens of all in a row: what an `Item` has of each."""

    ids_N: NDArray[np.int32]
    size_C: NDArray[np.int64]
    start_C: NDArray[np.int64]
    label_C: NDArray[np.int64]
    weight_C: NDArray[np.float32]
    case_ids: list[str]
    number_C: NDArray[np.int64]

    def parts(self, sizes: Sequence[int]) -> Iterator[Cases]:
        """The first so many cases, the next, …"""
        token_C1 = np.concatenate([[0], np.cumsum(self.size_C)])
        begin = 0
        for size in sizes:
            c = slice(begin, begin + size)
            tokens = self.ids_N[token_C1[begin] : token_C1[begin + size]]
            columns = (self.size_C[c], self.start_C[c], self.label_C[c], self.weight_C[c], self.case_ids[c])
            yield Cases(tokens, *columns, self.number_C[c])
            begin += size


def collate(
    rows: Sequence[Sequence[Item]], *, seq_len: int, pad_id: int, targets: bool, masked: bool = False
) -> MicroBatch:
    """Single cases, some in each row; see `tensors`."""
    items = [item for row in rows for item in row]
    cases = Cases(
        ids_N=np.concatenate([item.ids for item in items]),
        size_C=np.array([len(item.ids) for item in items]),
        start_C=np.array([item.start for item in items]),
        label_C=np.array([item.label for item in items]),
        weight_C=np.array([item.weight for item in items], dtype=np.float32),
        case_ids=[item.case_id for item in items],
        number_C=np.array([item.number for item in items]),
    )
    return tensors(cases, list(map(len, rows)), seq_len=seq_len, pad_id=pad_id, targets=targets, masked=masked)


def tensors(
    cases: Cases, in_row_B: Sequence[int], *, seq_len: int, pad_id: int, targets: bool, masked: bool = False
) -> MicroBatch:
    """One tensor row a sequence, `in_row_B` cases in each, side by side; as long as the longest, rounded up to 8 but within
    seq_len."""
    size_C = cases.size_C
    row_C = np.repeat(np.arange(len(in_row_B)), in_row_B)
    begin_C = np.cumsum(size_C) - size_C
    first_of_row_C = np.searchsorted(row_C, row_C)  # where in C its row begins
    begin_in_row_C = begin_C - begin_C[first_of_row_C]
    longest = int((begin_in_row_C + size_C).max())
    length = min(-(-longest // MULTIPLE) * MULTIPLE, seq_len)
    first_C = row_C * length + begin_in_row_C
    # Of every token: its place in its case, and the flat index where it goes.
    within_N = np.arange(len(cases.ids_N)) - np.repeat(begin_C, size_C)
    index_N = np.repeat(first_C, size_C) + within_N
    shape = (len(in_row_B), length)
    ids, positions = np.full(shape, pad_id, dtype=np.int64), np.zeros(shape, dtype=np.int64)
    segments = np.zeros(shape, dtype=np.int32)
    ids.reshape(-1)[index_N] = cases.ids_N
    positions.reshape(-1)[index_N] = within_N
    segments.reshape(-1)[index_N] = np.repeat((np.arange(len(size_C)) - first_of_row_C + 1).astype(np.int32), size_C)
    if targets:
        after_N = within_N >= np.repeat(cases.start_C - 1, size_C)
        target_N = np.flatnonzero(after_N & (within_N < np.repeat(size_C - 1, size_C)))
    return MicroBatch(
        input_ids_BL=torch.from_numpy(ids),
        position_ids_BL=torch.from_numpy(positions),
        segment_ids_BL=torch.from_numpy(segments),
        target_index_T=torch.from_numpy(index_N[target_N]) if targets else None,
        target_ids_T=torch.from_numpy(cases.ids_N[target_N + 1].astype(np.int64)) if targets else None,
        case_last_C=torch.from_numpy(first_C + size_C - 1),
        case_first_C=torch.from_numpy(first_C),
        case_label_C=torch.from_numpy(cases.label_C),
        case_weight_C=torch.from_numpy(cases.weight_C),
        case_ids=cases.case_ids,
        case_number_C=torch.from_numpy(cases.number_C),
        masked=masked,
    )


def stand_in(*, seq_len: int, pad_id: int, targets: bool) -> MicroBatch:
    """The least that a model can run on, for a worker that has no sequence left while others have."""
    nothing = Item(np.full(2, pad_id, dtype=np.int32), 1, 0, 0.0, "stand-in", -1)
    return collate([[nothing]], seq_len=seq_len, pad_id=pad_id, targets=targets, masked=True)
