"""Saving: a quick copy of this rank's slices into host memory, written later by another thread.

An engine and the caller's state flow in; a safetensors file and, after it, a marker flow out, on any filesystem. Only
`snapshot` touches the engine; the loop stands still for that copy and for nothing else. State on NVMe is not copied but
read while it is written, and the loop stands still for that too.
"""

from __future__ import annotations

import os
import time
from collections import defaultdict
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, cast

import torch
import torch.distributed as dist
from torch import Tensor

from distmed.checkpoint import rng
from distmed.checkpoint.folder import clear_rank
from distmed.checkpoint.frozen import frozen_hashes, frozen_parameters, persistent_buffers
from distmed.checkpoint.marker import Marker, Parameter, data_file, write_marker
from distmed.checkpoint.read import BUFFER, FROZEN, MASTER
from distmed.checkpoint.slices import Block, View, full_shape, group_of, view
from distmed.checkpoint.storage import Storage, disk_full, is_disk_full
from distmed.checkpoint.swapped import Swapped, flat_states, in_memory
from distmed.checkpoint.tensors import Entry, dtype_name, write_tensors

if TYPE_CHECKING:
    from deepspeed import DeepSpeedEngine

# A local file is made to last in pieces of this size: at its end alone, a slow disk would be silent for the whole of it.
SYNC_BYTES = 1 << 30
# How a step is computed, not what it computes: these follow the machine, not the checkpoint.
_NOT_HYPERPARAMETERS = {"params", "param_names", "name", "fused", "foreach", "capturable", "differentiable"}


class HostMemory:
    """Copies in host memory, made in that of snapshots which are written: fresh pages cost several times the copy."""

    def __init__(self) -> None:
        self.spare: defaultdict[tuple[torch.dtype, torch.Size], list[Tensor]] = defaultdict(list)

    def copy(self, tensor: Tensor) -> Tensor:
        """From an accelerator into pinned memory and not waited for."""
        spare = self.spare[tensor.dtype, tensor.shape]
        on_host = tensor.device.type == "cpu"
        host = spare.pop() if spare else torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=not on_host)
        return host.copy_(tensor.detach(), non_blocking=True)

    def take_back(self, copies: list[Tensor]) -> None:
        for host in copies:
            self.spare[host.dtype, host.shape].append(host)


@dataclass
class Snapshot:
    """Host copies of what one rank writes. `tensors` is keyed `master/NAME`, `exp_avg/NAME`, `frozen/NAME`,
    `buffer/NAME`; they are parts of `copies`, or lie on NVMe still. `progressed`: when the storage last took a part of
    one, by time.monotonic."""

    rank: int
    world_size: int
    tensors: dict[str, Tensor | Swapped]
    content: dict[str, Any]
    copies: list[Tensor] = field(default_factory=list)
    progressed: float = field(default_factory=time.monotonic)

    @property
    def reads_engine(self) -> bool:
        """Whether the engine must make no step until this is written, by the thread that steps it."""
        return any(isinstance(tensor, Swapped) for tensor in self.tensors.values())

    def write(self, folder: str | Path, filesystem: Any = None) -> None:
        """Write this rank's file, then its marker, into `folder` (local, fsspec URL, or a path on `filesystem`).

        Safe in another thread unless it `reads_engine`; no collective. Raises UserError when the disk is full, having
        removed what this rank wrote; older checkpoints stay as they are.
        """
        where = Storage.at(folder, filesystem)
        by_size = sorted(self.tensors.items(), key=lambda item: -item[1].itemsize)
        entries = [Entry(key, tensor.dtype, tensor.shape) for key, tensor in by_size]
        try:
            # Closed by hand: a write that fails must not leave a block of the engine open.
            with (
                (where / data_file(self.rank, self.world_size)).writing() as file,
                closing(in_memory(tensor for _, tensor in by_size)) as tensors,
                closing(_Taking(file, self, synced=where.is_local)) as taking,
            ):
                size, digest = write_tensors(cast(IO[bytes], taking), entries, tensors)
                taking.wait()
            write_marker(where, Marker(self.rank, self.world_size, size, digest, **self.content))
        except OSError as error:
            if not is_disk_full(error):
                raise
            clear_rank(where, self.rank, self.world_size)
            raise disk_full(where, "the checkpoint") from error


class _Taking:
    """The open file of a snapshot: what it takes counts as progress. On a local disk one piece is synced, beside the writing
    of the next, before a third begins."""

    def __init__(self, file: IO[bytes], snapshot: Snapshot, *, synced: bool) -> None:
        self.file, self.snapshot, self.synced = file, snapshot, synced
        self.fresh = 0
        self.beside = ThreadPoolExecutor(1)
        self.syncing: Future[None] | None = None

    def write(self, part: memoryview) -> None:
        self.file.write(part)
        self.fresh += len(part)
        if self.synced and self.fresh >= SYNC_BYTES:
            self.file.flush()
            self.wait()
            self.syncing = self.beside.submit(os.fdatasync, self.file.fileno())
            self.fresh = 0
        self.snapshot.progressed = time.monotonic()

    def wait(self) -> None:
        """What a sync met is told once, to whoever asked for it: the one at the end would know nothing of it."""
        if self.syncing:
            self.syncing.result()
        self.snapshot.progressed = time.monotonic()

    def close(self) -> None:
        self.beside.shutdown()


def snapshot(
    engine: DeepSpeedEngine, state: dict[str, Any], *, store_frozen: bool = False, memory: HostMemory | None = None
) -> Snapshot:
    """Copy this rank's slices, its random states and `state` (JSON-able) to host memory, but for what lies on NVMe. No
    collective.

    `store_frozen`: also keep frozen weights, for a base that cannot be rebuilt (fresh random weights). `memory`: where the
    copies go.
    """
    memory = memory or HostMemory()
    copies: list[Tensor] = []

    def to_host(tensor: Tensor) -> Tensor:
        copies.append(memory.copy(tensor))
        return copies[-1]

    rank, world_size = dist.get_rank(), dist.get_world_size()
    engine_view = view(engine)
    tensors: dict[str, Tensor | Swapped] = {}
    ranges: dict[str, list[int]] = {}
    stepped: dict[str, Parameter] = {}
    shapes = {name: (full_shape(parameter), parameter.dtype) for name, parameter in engine.module.named_parameters()}
    groups = group_of(engine_view)
    # Block by block, so that what lies on NVMe is read once.
    for block in engine_view.blocks:
        flats = flat_states(block)
        states = {kind: dtype_name(flat.dtype) for kind, flat in flats.items() if kind != MASTER}
        for name in block.names:
            shape, dtype = shapes[name]
            stepped[name] = Parameter(shape, dtype_name(dtype), groups[name], states, block.scalars())
        for kind, flat in flats.items():
            slices: Mapping[str, Tensor | Swapped] = (
                {piece.name: Swapped(block, kind, piece, flat.dtype) for piece in block.written}
                if block.on_nvme
                else _host_copies(block, flat, to_host)
            )
            tensors |= {f"{kind}/{name}": each for name, each in slices.items()}
        ranges |= {piece.name: [piece.start, piece.stop] for piece in block.written}
    frozen = frozen_parameters(engine, set(stepped))
    for piece in frozen:
        ranges[piece.name] = [piece.start, piece.stop]
        if store_frozen:
            tensors[f"{FROZEN}/{piece.name}"] = to_host(piece.share)
    buffers = persistent_buffers(engine.module)
    content: dict[str, Any] = {
        "ranges": ranges,
        "frozen_hashes": frozen_hashes(engine, frozen),
        "rng": rng.capture(),
        "state": state,
    }
    if rank == 0:
        tensors |= {f"{BUFFER}/{name}": to_host(buffer) for name, buffer in buffers.items()}
        known = stepped | {
            piece.name: Parameter(*_known(shapes[piece.name]), group=None, stored=store_frozen) for piece in frozen
        }
        content |= {
            "parameters": {name: known[name] for name in shapes},
            "groups": hyperparameters(engine_view),
            "buffers": list(buffers),
            "engine_steps": engine.global_steps,
        }
    if torch.accelerator.is_available():
        torch.accelerator.synchronize()
    return Snapshot(rank, world_size, tensors, content, copies)


def hyperparameters(engine_view: View) -> dict[str, dict[str, Any]]:
    """JSON-able settings of each parameter group by name: lr, betas, eps, weight_decay and what the caller added."""
    return {
        name: {key: _plain(value) for key, value in group.items() if key not in _NOT_HYPERPARAMETERS}
        for name, group in engine_view.groups.items()
    }


def _known(shape_and_dtype: tuple[list[int], torch.dtype]) -> tuple[list[int], str]:
    return shape_and_dtype[0], dtype_name(shape_and_dtype[1])


def _plain(value: Any) -> Any:
    return value.item() if isinstance(value, Tensor) else value


def _host_copies(block: Block, flat: Tensor, to_host: Callable[[Tensor], Tensor]) -> dict[str, Tensor]:
    """The written slices by name, as parts of one copy: a block is contiguous, and one long copy is the quickest."""
    if not block.written:
        return {}
    first = block.written[0].offset
    last = block.written[-1].offset + block.written[-1].numel
    host = to_host(flat[first:last])
    return {piece.name: host[piece.offset - first : piece.offset - first + piece.numel] for piece in block.written}
