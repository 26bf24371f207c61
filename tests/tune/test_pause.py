"""What pauses the trials of a search and does not end them: a resumed search goes on with each of them."""

from __future__ import annotations

import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from distmed.checkpoint.storage import Storage, disk_full
from distmed.train.logbook import Logbook
from distmed.tune import trial as trials
from distmed.tune.record import Record
from distmed.tune.search import Search
from distmed.tune.trial import Order, TrialLogbook, TrialRun
from tests.tune.conftest import SMALL, TuneDoor, changed
from tests.tune.simulated import recipe_with, search_in
from tests.tune.watching import table

LR = "optimizer.lr"
VALUE: dict[str, Any] = {"value": 0.5, "step": 10, "progress": 0.1, "metrics": {}}


def make(folder: Path, **tune: Any) -> Search:
    return search_in(folder, recipe_with(space={LR: {"loguniform": [1e-6, 1e-2]}}, **{"trials": 5, **tune}))


@pytest.fixture
def search(tmp_path: Path) -> Search:
    """Two trials run, each with an evaluation."""
    made = make(tmp_path)
    for number in (0, 1):
        assert isinstance(made.propose(str(number)), dict)
        made.reported(number, VALUE)
    return made


@pytest.fixture
def run(search: Search, monkeypatch: pytest.MonkeyPatch) -> TrialRun:
    """A trial whose logbook lies in this process, and whose workers are alive and silent."""
    book: Any = TrialLogbook.__new__(TrialLogbook)
    book.events, book.stop, book.leave, book.places = [], False, False, {}
    book.tracker = SimpleNamespace(notes=[], finish=lambda summary: None)

    class Here:
        def __getattr__(self, name: str) -> Any:
            return SimpleNamespace(remote=getattr(book, name))

    monkeypatch.setattr(trials.ray, "get", lambda answer: answer)
    monkeypatch.setattr(trials.ray, "kill", lambda actor: None)
    made: Any = TrialRun(search.plan, Order(1, 1, 0, {LR: 1e-4}))
    made.logbook, made.book = Here(), book
    made.job = SimpleNamespace(total_steps=100)
    made.training = SimpleNamespace(is_alive=lambda: True, wait=threading.Event().wait, end=lambda: None, error=None)
    return made  # type: ignore[no-any-return]


def tell_full(book: Logbook) -> None:
    """As run_worker does."""
    error = disk_full(Storage.at("/shared/run"), "the checkpoint")
    book.fatal("user", error.message, error.hint, of_storage=True)


def test_a_full_disk_that_any_trial_meets_ends_the_search_and_fails_no_setting(
    search: Search, run: TrialRun, tmp_path: Path
) -> None:
    tell_full(run.book)  # type: ignore[attr-defined]
    search.reported(1, run.next())
    assert search.refused is not None and "no space left" in search.refused.message
    assert search.propose("2") == "FINISHED"
    again = make(tmp_path)
    assert [trial.number for trial in again.proposals.waiting] == [0, 1]


def test_what_ray_train_cannot_write_pauses_the_trial_too(run: TrialRun) -> None:
    training: Any = run.training
    training.is_alive = lambda: False
    training.error = RuntimeError("OSError: [Errno 30] Read-only file system: '/shared/run'")
    found = run.next()
    assert found["state"] == "waiting" and "Read-only file system" in found["cause"] and found["hint"]


def test_a_storage_out_of_reach_pauses_the_trial(run: TrialRun, monkeypatch: pytest.MonkeyPatch) -> None:
    def gone(*_: Any) -> int:
        raise RuntimeError("no route to the store")

    monkeypatch.setattr("distmed.checkpoint.folder.next_attempt", gone)
    monkeypatch.setattr(trials.ray, "get_runtime_context", lambda: SimpleNamespace(get_node_id=lambda: "0" * 56))
    run.training = None
    found = run.next()
    assert found["state"] == "waiting" and "no route to the store" in found["cause"]


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Callable[[str], Path]]:
    """A disk of the given size, such as 30m; called again it grows."""
    folder = tmp_path / "disk"

    def mount(size: str) -> Path:
        options = f"size={size},remount" if folder.exists() else f"size={size}"
        folder.mkdir(exist_ok=True)
        made = subprocess.run(["mount", "-t", "tmpfs", "-o", options, "none", str(folder)], capture_output=True)
        if made.returncode:
            pytest.skip(f"a small disk cannot be mounted here: {made.stderr.decode().strip()}")
        return folder

    yield mount
    subprocess.run(["umount", "--lazy", str(folder)], check=False)


@pytest.mark.slow
@pytest.mark.usefixtures("ray_address")
def test_a_search_goes_on_when_there_is_room_again(door: TuneDoor, disk: Callable[[str], Path]) -> None:
    """Trial 0 has room for its checkpoints, trial 1 has none beside them."""
    values = changed(
        SMALL,
        tune__concurrency=1,
        tune__trials=3,
        train__eval_every=4,
        checkpoint={"best": "diag/macro_f1", "keep": 1, "storage_path": str(disk("40m"))},
    )
    assert door.status(values) == 2
    assert "no space left" in door.said()
    run = door.folder / "runs" / "small"
    assert [trial.state for trial in Record(run / "search.jsonl").trials.values()] == ["done", "waiting"]
    disk("400m")
    assert door.status(values, "--resume") == 0
    assert [row["state"] for row in table(run)] == ["done"] * 3
