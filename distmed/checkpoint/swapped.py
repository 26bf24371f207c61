"""State that lies on NVMe, where memory has no room for a copy: it is read while a checkpoint is written.

Slices of such blocks flow in, their elements flow out in the same order, with one block in memory at a time.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable
from contextlib import ExitStack
from dataclasses import dataclass

import torch
from torch import Tensor

from distmed.checkpoint.read import MASTER
from distmed.checkpoint.slices import Block, Slice


@dataclass(frozen=True)
class Swapped:
    """A slice of a block on NVMe: of its master, or of the optimizer state that `kind` names."""

    block: Block
    kind: str
    piece: Slice
    dtype: torch.dtype

    @property
    def shape(self) -> list[int]:
        return [self.piece.numel]

    @property
    def itemsize(self) -> int:
        return self.dtype.itemsize


def flat_states(block: Block) -> dict[str, Tensor]:
    """Master and optimizer state by kind, flattened; those of a block on NVMe have elements only while it is open."""
    return {MASTER: block.tensor.detach().view(-1), **block.state()}


def in_memory(tensors: Iterable[Tensor | Swapped]) -> Generator[Tensor, None, None]:
    """Each as a tensor, good until the next one is asked for. A block is read once where its slices come one after another."""
    with ExitStack() as stack:
        opened: Block | None = None
        for each in tensors:
            if isinstance(each, Tensor):
                yield each
                continue
            if each.block is not opened:
                stack.close()
                stack.enter_context(each.block.open(False))
                opened = each.block
            flat = flat_states(each.block)[each.kind]
            yield flat[each.piece.offset : each.piece.offset + each.piece.numel]
