"""A start that comes to nothing leaves nothing, but what took long to count, and never takes what was there."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from distmed.rundir import RunDir
from distmed.train import beginning
from distmed.train.beginning import Beginning
from distmed.train.lock import RunLock

SAID: list[str] = []
PROGRESS: Any = SimpleNamespace(note=SAID.append)
MINE: Any = SimpleNamespace(is_mine=lambda: True)


def write(run: RunDir) -> None:
    for path in (run.data / "tokens-1" / "ids.i4", run.base / "config.json", run.log, run.lock):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("x")


def test_nothing_is_left(tmp_path: Path) -> None:
    run = RunDir(tmp_path / "run")
    start = Beginning(run)
    write(run)
    start.undo(MINE, PROGRESS)
    assert not run.path.exists()


def test_what_took_long_to_count_stays_and_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(beginning, "KEEP_COUNTS_S", -1.0)
    run = RunDir(tmp_path / "run")
    start = Beginning(run)
    write(run)
    start.undo(MINE, PROGRESS)
    assert list(run.path.iterdir()) == [run.data] and (run.data / "tokens-1" / "ids.i4").exists()
    assert SAID[-1] == f"what was counted stays in {run.data}: the next start of this run goes on from it"


def test_a_run_that_was_there_keeps_all_of_it(tmp_path: Path) -> None:
    run = RunDir(tmp_path / "run")
    write(run)
    (run.path / "notes.txt").write_text("mine")
    start = Beginning(run)
    run.recipe.write_text("name: run")
    start.undo(MINE, PROGRESS)
    assert {path.name for path in run.path.iterdir()} == {"data", "base", "log.txt", "lock.json", "notes.txt"}


def test_what_only_copied_rows_is_not_worth_keeping(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(beginning, "KEEP_COUNTS_S", -1.0)
    run = RunDir(tmp_path / "run")
    start = Beginning(run)
    (run.data / "cases-1").mkdir(parents=True)
    start.undo(MINE, PROGRESS)
    assert not run.path.exists()


def test_a_driver_whose_lock_was_taken_over_takes_nothing_away(tmp_path: Path) -> None:
    run = RunDir(tmp_path / "run")
    start = Beginning(run)
    with RunLock(tmp_path / "lock", "run") as lock:
        (tmp_path / "lock").write_text('{"token": "another"}')
        write(run)
        run.recipe.write_text("name: run")
        start.undo(lock, PROGRESS)
    assert run.recipe.exists() and run.data.exists()
