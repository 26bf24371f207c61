from __future__ import annotations

import errno
import time
from pathlib import Path

import pytest
import torch

from distmed.checkpoint import folder as folders
from distmed.checkpoint.save import HostMemory
from distmed.errors import UserError

from . import make


@pytest.mark.parametrize("file", ["rank-00001-of-00002.safetensors", "rank-00001-of-00002.json"])
def test_a_full_disk_leaves_the_older_checkpoint_and_no_scrap(tmp_path: Path, file: str) -> None:
    old = make.write(tmp_path, 10)
    new = tmp_path / folders.name(20, 2, 0)
    new.mkdir()
    (new / f"{file}.partial").symlink_to("/dev/full")
    first, second = make.snapshots(make.weights(), 2)
    second.write(new)
    with pytest.raises(UserError, match="no space left") as caught:
        first.write(new)
    assert "checkpoint.keep" in caught.value.hint
    assert sorted(path.name for path in new.iterdir()) == [
        "rank-00002-of-00002.json",
        "rank-00002-of-00002.safetensors",
    ]
    assert folders.newest_complete(tmp_path)[0] == old
    assert folders.verify(old) is None


def test_a_full_disk_leaves_no_empty_folder(tmp_path: Path) -> None:
    new = tmp_path / folders.name(20, 1, 0)
    new.mkdir()
    (new / "rank-00001-of-00001.json.partial").symlink_to("/dev/full")
    with pytest.raises(UserError):
        make.snapshots(make.weights(), 1)[0].write(new)
    assert not new.exists()


def test_another_fault_of_the_disk_is_not_taken_for_a_full_one(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match=r"[Ff]ile exists|Not a directory"):
        make.snapshots(make.weights(), 1)[0].write(tmp_path / "file")


def test_only_the_memory_of_what_is_written_is_used_again() -> None:
    memory = HostMemory()
    first, second = memory.copy(torch.ones(3)), memory.copy(torch.full((3,), 2.0))
    memory.take_back([first])
    third, other = memory.copy(torch.full((3,), 3.0)), memory.copy(torch.ones(3, dtype=torch.bfloat16))
    assert third.data_ptr() == first.data_ptr()
    assert (second.tolist(), third.tolist(), other.tolist()) == ([2.0] * 3, [3.0] * 3, [1.0] * 3)
    assert other.dtype == torch.bfloat16


def test_a_slow_disk_is_seen_to_take_a_large_tensor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each piece takes it 50 s: synced at its end alone, the file would look as if nothing took it."""
    now, silent = [0.0], []

    def sync(_: int) -> None:
        silent.append(time.monotonic() - first.progressed)
        now[0] += 50

    monkeypatch.setattr("time.monotonic", lambda: now[0])
    monkeypatch.setattr("os.fdatasync", sync)
    monkeypatch.setattr("distmed.checkpoint.save.SYNC_BYTES", 1 << 10, raising=False)
    monkeypatch.setattr("distmed.checkpoint.tensors.CHUNK_BYTES", 1 << 8)
    (first,) = make.snapshots({"hf.large": torch.zeros(1 << 10)}, 1)
    first.write(tmp_path / folders.name(10, 1, 0))
    assert first.progressed == now[0] == 200
    assert len(silent) == 4
    assert max(silent) <= 50
    assert folders.verify(tmp_path / folders.name(10, 1, 0)) is None


@pytest.mark.parametrize("tensors", [1, 2])
def test_a_disk_that_is_full_when_a_piece_is_synced_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tensors: int
) -> None:
    """Whether it is the last piece or one before it."""

    def sync(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("os.fdatasync", sync)
    monkeypatch.setattr("distmed.checkpoint.save.SYNC_BYTES", 1 << 10)
    (first,) = make.snapshots({f"hf.{i}": torch.zeros(1 << 8) for i in range(tensors)}, 1)
    with pytest.raises(UserError, match="no space left"):
        first.write(tmp_path / folders.name(10, 1, 0))
    assert folders.names(tmp_path) == []
