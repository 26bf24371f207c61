"""Tensors that no optimizer steps: frozen weights and persistent buffers.

A frozen weight that comes from the base model is not copied but named by a hash, which any partition of it can help to
compute; one that cannot be rebuilt is stored like a trained one. Buffers are small and stored by the first rank.
"""

from __future__ import annotations

import weakref
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
import torch.distributed as dist
from torch import Tensor

from distmed.checkpoint.slices import even_share

if TYPE_CHECKING:
    from deepspeed import DeepSpeedEngine

_CHUNK = 1 << 20
_BITS = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}
_hashes: weakref.WeakKeyDictionary[torch.nn.Module, dict[str, int]] = weakref.WeakKeyDictionary()


@dataclass(frozen=True)
class Frozen:
    """Elements [start, stop) of a frozen parameter, this rank's share; `held` is what it has of it, from `held_start`
    on."""

    name: str
    parameter: Tensor
    start: int
    stop: int
    held: Tensor
    held_start: int

    @property
    def share(self) -> Tensor:
        return self.held[self.start - self.held_start : self.stop - self.held_start]


def frozen_parameters(engine: DeepSpeedEngine, stepped: set[str]) -> list[Frozen]:
    """Every parameter that is not in `stepped`, in the model's order."""
    rank, world_size = dist.get_rank(), dist.get_world_size()
    found = []
    for name, parameter in engine.module.named_parameters():
        if name in stepped:
            continue
        if hasattr(parameter, "ds_tensor"):
            run = parameter.partition_numel()
            start, stop = min(rank * run, parameter.ds_numel), min((rank + 1) * run, parameter.ds_numel)
            found.append(Frozen(name, parameter, start, stop, parameter.ds_tensor.data[: stop - start], start))
        else:
            start, stop = even_share(parameter.numel(), rank, world_size)
            found.append(Frozen(name, parameter, start, stop, parameter.data.view(-1), 0))
    return found


def frozen_hashes(engine: DeepSpeedEngine, frozen: list[Frozen]) -> dict[str, int]:
    """`partial_hash` of this rank's share of each; computed once a run, since nothing changes them."""
    if engine.module not in _hashes:
        _hashes[engine.module] = {piece.name: partial_hash(piece.share, piece.start) for piece in frozen}
    return _hashes[engine.module]


def partial_hash(part: Tensor, start: int) -> int:
    """Hash of the bits of elements from `start` on. The hashes of disjoint parts add up (mod 2^64, signed) to the
    whole's.

    Each element's bits are multiplied by an odd weight that depends on its place (the finalizer of splitmix64), so
    a changed, moved or swapped element changes the sum. It detects another model, not an adversary.
    """
    bits = part.view(_BITS[part.itemsize])
    total = torch.zeros((), dtype=torch.int64, device=part.device)
    for first in range(0, bits.numel(), _CHUNK):
        chunk = bits[first : first + _CHUNK].to(torch.int64)
        place = torch.arange(start + first, start + first + chunk.numel(), device=part.device)
        weight = (place + 1) * -7046029254386353131
        weight = (weight ^ (weight >> 30)) * -4658895280553007687
        weight = (weight ^ (weight >> 27)) * -7723592293110705685
        total += ((chunk + 1) * (weight | 1)).sum()
    return int(total)


def wrapped_sum(hashes: list[int]) -> int:
    """Sum as int64 sums: mod 2^64, signed."""
    total = sum(hashes) & (2**64 - 1)
    return total - 2**64 if total >= 2**63 else total


def persistent_buffers(module: torch.nn.Module) -> dict[str, Tensor]:
    """Buffers that a state dict would hold, by name."""
    return {
        f"{prefix}.{name}" if prefix else name: buffer
        for prefix, inner in module.named_modules()
        for name, buffer in inner._buffers.items()
        if buffer is not None and name not in inner._non_persistent_buffers_set
    }
