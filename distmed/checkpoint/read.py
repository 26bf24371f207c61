"""A checkpoint opened for reading: any flat range of any tensor, from whichever rank files hold it.

A folder flows in, filled host tensors flow out. Nothing here needs deepspeed or a process group: loading and export
share it.
"""

from __future__ import annotations

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Lock
from typing import Any, NamedTuple

import torch
from torch import Tensor

from distmed.checkpoint.marker import CorruptCheckpointError, Parameter, data_file, read_markers, world_size_of
from distmed.checkpoint.storage import Storage
from distmed.checkpoint.tensors import TensorFile

# What comes before the parameter's name in a tensor's key; optimizer state has its own name there (`exp_avg/…`).
MASTER, FROZEN, BUFFER = "master", "frozen", "buffer"


class Wanted(NamedTuple):
    """Elements [start, start + out.numel()) of `kind/name` are wanted in `out` (flat, host memory)."""

    kind: str
    name: str
    start: int
    out: Tensor


class Checkpoint:
    """The markers are read at once, a rank's file only when a range in it is wanted. Several threads may read.

    Raises CorruptCheckpointError for a missing or damaged marker, a short file, or a range that no rank wrote.
    """

    def __init__(self, folder: str | Path | Storage, filesystem: Any = None) -> None:
        self.folder = Storage.at(folder, filesystem)
        world_size = world_size_of(list(self.folder.children()))
        if world_size is None:
            raise CorruptCheckpointError(f"no checkpoint in {self.folder}")
        self.world_size = world_size
        self.markers = read_markers(self.folder, world_size)
        self._files: dict[int, TensorFile] = {}
        self._opening = Lock()
        self._pieces: dict[str, list[tuple[int, int, int]]] = {}
        for marker in self.markers:
            for name, (start, stop) in marker.ranges.items():
                if start < stop:
                    self._pieces.setdefault(name, []).append((start, stop, marker.rank))
        for pieces in self._pieces.values():
            pieces.sort()

    @property
    def parameters(self) -> dict[str, Parameter]:
        """Every parameter of the model, in the model's order."""
        return self.markers[0].parameters

    @property
    def groups(self) -> dict[str, dict[str, Any]]:
        return self.markers[0].groups

    def read(self, wanted: Iterable[Wanted]) -> None:
        """Fill all; only bytes that are wanted are read, many ranges at once (each costs an object store a round
        trip)."""
        parts = [part for item in wanted for part in self._parts(item)]
        for rank in {part[0] for part in parts}:
            self._file(rank)
        with ThreadPoolExecutor(max_workers=2 if self.folder.is_local else 32) as pool:
            for _ in pool.map(lambda part: self._file(part[0]).read_into(*part[1:]), parts):
                pass

    def dtype(self, kind: str, name: str) -> torch.dtype:
        """What `kind/name` was saved in, as the first rank that has some of it says."""
        pieces = self._pieces.get(name)
        if not pieces:
            raise CorruptCheckpointError(f"no rank wrote {kind}/{name}")
        return self._file(pieces[0][2]).dtype(f"{kind}/{name}")

    def buffers(self) -> dict[str, Tensor]:
        """Persistent buffers by name, whole."""
        return {name: self._file(0).read(f"{BUFFER}/{name}") for name in self.markers[0].buffers}

    def close(self) -> None:
        for file in self._files.values():
            file.close()
        self._files.clear()

    def __enter__(self) -> Checkpoint:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _parts(self, wanted: Wanted) -> list[tuple[int, str, int, Tensor]]:
        """(rank, key, first element in that rank's tensor, where to) for each rank's file that overlaps."""
        parts, at, stop = [], wanted.start, wanted.start + wanted.out.numel()
        for first, last, rank in self._pieces.get(wanted.name, []):
            if first <= at < min(last, stop):
                out = wanted.out[at - wanted.start : min(last, stop) - wanted.start]
                parts.append((rank, f"{wanted.kind}/{wanted.name}", at - first, out))
                at = min(last, stop)
        if at < stop:
            raise CorruptCheckpointError(f"no rank wrote {wanted.kind}/{wanted.name} from element {at} on")
        return parts

    def _file(self, rank: int) -> TensorFile:
        with self._opening:
            if rank not in self._files:
                self._files[rank] = TensorFile(self.folder / data_file(rank, self.world_size))
            return self._files[rank]


def whole(checkpoint: Checkpoint, kind: str, name: str) -> Tensor:
    """One tensor put together from all ranks, in the shape of its parameter."""
    out = torch.empty(checkpoint.parameters[name].shape, dtype=checkpoint.dtype(kind, name))
    checkpoint.read([Wanted(kind, name, 0, out.view(-1))])
    return out
