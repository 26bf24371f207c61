from __future__ import annotations

import os
from pathlib import Path

import pyarrow.fs
import pytest

from distmed.checkpoint import folder as folders

from . import make


def test_a_name_tells_step_world_and_attempt() -> None:
    text = folders.name(20, 2, 0)
    assert text == "step-00000020-world-2-attempt-0"
    assert str(folders.parse(text)) == text
    assert text.startswith(folders.name_prefix(20))
    assert folders.parse("step-20-world-2") is None


def test_checkpoints_are_ordered_by_step_then_attempt(tmp_path: Path) -> None:
    for step, attempt in ((20, 0), (3, 0), (20, 1), (100, 0)):
        make.write(tmp_path, step, attempt=attempt)
    (tmp_path / "something-else").mkdir()
    assert [(name.step, name.attempt) for name in folders.names(tmp_path)] == [(3, 0), (20, 0), (20, 1), (100, 0)]
    assert folders.next_attempt(tmp_path) == 2
    assert folders.next_attempt(tmp_path / "nowhere") == 0
    assert folders.at_step(tmp_path, 20) == str(tmp_path / folders.name(20, 2, 1))
    assert folders.at_step(tmp_path, 21) is None


def test_a_missing_marker_makes_it_incomplete(tmp_path: Path) -> None:
    path = Path(make.write(tmp_path, 1, world_size=3))
    assert folders.is_complete(path)
    (path / "rank-00002-of-00003.json").unlink()
    assert folders.why_incomplete(path) == "1 of 3 markers missing"
    assert folders.why_incomplete(tmp_path / "nowhere") == "no marker"


@pytest.mark.parametrize("damage", ["truncated", "gone", "marker"])
def test_the_newest_complete_one_is_found_behind_a_broken_one(tmp_path: Path, damage: str) -> None:
    good, broken = make.write(tmp_path, 10), Path(make.write(tmp_path, 20))
    data = broken / "rank-00002-of-00002.safetensors"
    if damage == "truncated":
        os.truncate(data, data.stat().st_size - 1)
    elif damage == "gone":
        data.unlink()
    else:
        make.flip_byte(broken / "rank-00001-of-00002.json", at=400)
    path, notes = folders.newest_complete(tmp_path)
    assert path == good
    assert len(notes) == 1
    assert notes[0].startswith("skipped step-00000020-world-2-attempt-0: rank-0000")


def test_a_flipped_byte_is_found_by_its_hash_alone(tmp_path: Path) -> None:
    path = make.write(tmp_path, 20)
    assert folders.verify(path) is None
    make.flip_byte(Path(path) / "rank-00002-of-00002.safetensors")
    assert folders.is_complete(path)
    assert folders.verify(path) == ("rank-00002-of-00002.safetensors is damaged: its hash is not the one in its marker")


def test_no_checkpoint_is_no_error(tmp_path: Path) -> None:
    assert folders.newest_complete(tmp_path / "nowhere") == (None, [])
    assert folders.prune(tmp_path, keep=1) == []


def test_prune_keeps_the_newest_and_the_best(tmp_path: Path) -> None:
    for step in (10, 20, 30, 40, 50):
        make.write(tmp_path, step)
    incomplete = tmp_path / folders.name(35, 2, 0)
    incomplete.mkdir()
    being_written = tmp_path / folders.name(60, 2, 0)
    being_written.mkdir()
    gone = folders.prune(tmp_path, keep=2, protect=folders.name_prefix(20))
    assert gone == [folders.name(step, 2, 0) for step in (10, 30, 35)]
    assert [name.step for name in folders.names(tmp_path)] == [20, 40, 50, 60]
    assert folders.prune(tmp_path, keep=2, protect={folders.name(20, 2, 0)}) == []
    assert folders.prune(tmp_path, keep=9) == []


def test_what_an_attempt_writes_stays_before_damaged_ones_of_higher_steps(tmp_path: Path) -> None:
    make.write(tmp_path, 50)
    for step in (90, 100):
        make.flip_byte(Path(make.write(tmp_path, step)) / "rank-00002-of-00002.safetensors")
    for step in (60, 70, 80):
        make.write(tmp_path, step, attempt=1)
        folders.prune(tmp_path, keep=2)
        assert folders.at_step(tmp_path, step), "the newest was taken away"
    assert [name.step for name in folders.names(tmp_path)] == [70, 80]


def test_a_removal_cut_short_leaves_nothing_that_looks_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    old = make.write(tmp_path, 10)
    make.write(tmp_path, 20)

    def killed(self: object, path: str, recursive: bool = False, **_: object) -> None:
        if path.endswith(".json"):
            Path(path).unlink()
        else:
            raise KeyboardInterrupt

    monkeypatch.setattr("fsspec.implementations.local.LocalFileSystem.rm", killed)
    with pytest.raises(KeyboardInterrupt):
        folders.prune(tmp_path, keep=1)
    assert not folders.is_complete(old)


def test_an_object_store_works_like_a_disk() -> None:
    root = "memory://bucket/runs/one"
    make.write(root, 10, world_size=3)
    make.write(root, 20, world_size=3)
    path, notes = folders.newest_complete(root)
    assert path is not None
    assert path.endswith("step-00000020-world-3-attempt-0")
    assert notes == []
    assert folders.verify(path) is None
    assert folders.prune(root, keep=1) == ["step-00000010-world-3-attempt-0"]
    assert [name.step for name in folders.names(root)] == [20]


@pytest.mark.parametrize("wrapped", [False, True])
def test_a_pyarrow_filesystem_is_taken_as_ray_hands_it_over(tmp_path: Path, wrapped: bool) -> None:
    local = pyarrow.fs.LocalFileSystem()
    filesystem = pyarrow.fs.SubTreeFileSystem(str(tmp_path), local) if wrapped else local
    root = "run" if wrapped else f"{tmp_path}/run"
    name = folders.name(10, 2, 0)
    for snapshot in make.snapshots(make.weights(), 2):
        snapshot.write(f"{root}/{name}", filesystem)
    assert folders.verify(f"{root}/{name}", filesystem) is None
    assert folders.verify(tmp_path / "run" / name) is None
    assert folders.newest_complete(root, filesystem)[0] is not None
    make.write(tmp_path / "run", 20)
    assert folders.prune(root, keep=1, filesystem=filesystem) == [name]
