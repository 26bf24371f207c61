"""Blocks on NVMe, here simulated by bytes: one at a time is in memory while a checkpoint is written."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from distmed.checkpoint.marker import data_file
from distmed.checkpoint.save import Snapshot
from distmed.checkpoint.slices import Block, Slice
from distmed.checkpoint.swapped import Swapped, flat_states

KINDS = ["master", "exp_avg", "exp_avg_sq"]


class Nvme:
    """Three blocks of two parameters each with padding between them, how often each was read, and how many are open."""

    def __init__(self) -> None:
        generator = torch.Generator().manual_seed(1)
        self.stored = [{kind: torch.randn(12, generator=generator) for kind in KINDS} for _ in range(3)]
        self.read = [0, 0, 0]
        self.open = self.most_open = 0
        self.blocks = [self._block(index) for index in range(3)]

    def _block(self, index: int) -> Block:
        held = {kind: torch.Tensor() for kind in KINDS}
        master = held.pop("master")

        @contextlib.contextmanager
        def opened(write: bool) -> Iterator[None]:
            self.read[index] += 1
            self.open += 1
            self.most_open = max(self.most_open, self.open)
            for kind, tensor in {"master": master, **held}.items():
                tensor.data = self.stored[index][kind].clone()
            try:
                yield
            finally:
                self.open -= 1
                for tensor in (master, *held.values()):
                    tensor.data.fill_(torch.nan)
                    tensor.data = torch.Tensor()

        names = [f"{index}.weight", f"{index}.bias"]
        slices = [Slice(names[0], 0, 7, 0), Slice(names[1], 0, 4, 8)]
        optimizer: Any = SimpleNamespace(state={master: {"step": 3, **held}})
        return Block(master, optimizer, 0, names, slices, on_nvme=True, open=opened)

    def snapshots(self) -> tuple[Snapshot, Snapshot]:
        """Of what lies on NVMe, beside one tensor of another size; and of copies of the same."""
        late: dict[str, Tensor | Swapped] = {"frozen/half": torch.ones(3, dtype=torch.bfloat16)}
        early = dict(late)
        for block, stored in zip(self.blocks, self.stored, strict=True):
            for kind, flat in flat_states(block).items():
                for piece in block.written:
                    key = f"{kind}/{piece.name}"
                    late[key] = Swapped(block, kind, piece, flat.dtype)
                    early[key] = stored[kind][piece.offset : piece.offset + piece.numel]
        content: dict[str, Any] = {"ranges": {}, "frozen_hashes": {}, "rng": {}, "state": {}}
        return Snapshot(0, 1, late, content), Snapshot(0, 1, early, content)


def test_blocks_are_read_once_and_one_at_a_time_into_the_bytes_that_copies_give(tmp_path: Path) -> None:
    nvme = Nvme()
    late, early = nvme.snapshots()
    late.write(tmp_path / "late")
    early.write(tmp_path / "early")
    assert (nvme.read, nvme.most_open, nvme.open) == ([1, 1, 1], 1, 0)
    assert (late.reads_engine, early.reads_engine) == (True, False)
    for name in (data_file(0, 1), "rank-00001-of-00001.json"):
        assert (tmp_path / "late" / name).read_bytes() == (tmp_path / "early" / name).read_bytes()


class Breaks:
    """A file that breaks when it has taken so many pieces."""

    def __init__(self, pieces: int) -> None:
        self.left = pieces

    def write(self, content: memoryview) -> int:
        self.left -= 1
        if self.left < 0:
            raise OSError("the storage went away")
        return len(content)


def test_a_write_that_fails_leaves_no_block_open(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    nvme = Nvme()
    late, early = nvme.snapshots()
    with monkeypatch.context() as patch:
        patch.setattr("distmed.checkpoint.storage.Storage.writing", lambda self: contextlib.nullcontext(Breaks(9)))
        with pytest.raises(OSError, match="went away") as caught:
            late.write(tmp_path / "late")
    # What failed is held, as the saver holds it while it tries again.
    assert caught.value is not None
    assert (nvme.read, nvme.open) == ([1, 1, 0], 0)
    late.write(tmp_path / "late")
    early.write(tmp_path / "early")
    assert (tmp_path / "late" / data_file(0, 1)).read_bytes() == (tmp_path / "early" / data_file(0, 1)).read_bytes()
