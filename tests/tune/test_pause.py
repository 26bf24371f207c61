"""What pauses the trials of a search and does not end them: a resumed search goes on with each of them."""

from __future__ import annotations

import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import MagicMock

import pytest

from distmed.checkpoint.storage import Storage, disk_full
from distmed.errors import FAILED
from distmed.train.logbook import Logbook
from distmed.train.repeated import Repeated
from distmed.train.stall import Place
from distmed.tune import command
from distmed.tune import trial as trials
from distmed.tune.record import Record
from distmed.tune.search import Search
from distmed.tune.selection import ranking
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
    book.events, book.causes, book.places = [], [], {}
    book.stop = book.leave = book.told_failure = False
    book.last_step = 0
    book.repeated = Repeated()
    book.tracker = SimpleNamespace(notes=[], log=lambda step, metrics: None, finish=lambda summary: None)

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


def result(*, stopped: bool) -> dict[str, Any]:
    """What the first worker says when its own part of the last checkpoint is written."""
    return {"stopped": stopped, "grows": False, "speed": {"tokens_per_s": 1.0}, "state": {"step": 21}}


def end_workers(run: TrialRun, error: Exception | None = None) -> None:
    training: Any = run.training
    training.is_alive, training.error = (lambda: False), error


def test_a_full_disk_that_any_trial_meets_ends_the_search_and_fails_no_setting(
    search: Search, run: TrialRun, tmp_path: Path
) -> None:
    tell_full(run.book)  # type: ignore[attr-defined]
    search.reported(1, run.next())
    assert search.refused is not None and "no space left" in search.refused.message
    # A resume refuses another recipe.
    assert "--resume" in search.refused.hint and "checkpoint." not in search.refused.hint
    assert search.propose("2") == "FINISHED"
    again = make(tmp_path)
    assert [trial.number for trial in again.proposals.waiting] == [0, 1]


def test_what_ray_train_cannot_write_pauses_the_trial_too(run: TrialRun) -> None:
    end_workers(run, RuntimeError("OSError: [Errno 30] Read-only file system: '/shared/run'"))
    found = run.next()
    assert found["state"] == "waiting" and "Read-only file system" in found["cause"]
    assert "--resume" in found["hint"] and "another place" not in found["hint"]


def test_a_storage_out_of_reach_pauses_the_trial(run: TrialRun, monkeypatch: pytest.MonkeyPatch) -> None:
    def gone(*_: Any) -> int:
        raise RuntimeError("no route to the store")

    monkeypatch.setattr("distmed.checkpoint.folder.next_attempt", gone)
    monkeypatch.setattr(trials, "_free", lambda name: None)
    run.training = None
    found = run.next()
    assert found["state"] == "waiting" and "no route to the store" in found["cause"]


@pytest.mark.parametrize("lost", [False, True])
def test_a_trial_without_workers_ends_when_it_is_asked_to_stop(run: TrialRun, lost: bool) -> None:
    book = run.book  # type: ignore[attr-defined]
    if lost:
        book.worker_starts(Place(0, "a host", "its id", 1, 0, 2))
        book.workers_failed({}, [0], [])
    found: list[dict[str, Any]] = []
    waits = threading.Thread(target=lambda: found.append(run.next()), daemon=True)
    waits.start()
    waits.join(1)
    assert waits.is_alive()
    book.ask_to_stop()
    waits.join(5)
    assert [each["state"] for each in found] == ["waiting"]


def test_one_that_has_workers_is_left_to_save(run: TrialRun) -> None:
    book = run.book  # type: ignore[attr-defined]
    book.worker_starts(Place(0, "a host", "its id", 1, 0, 2))
    book.ask_to_stop()
    book.log(20, {"train/loss": 1.0}, {"diag/macro_f1": 0.5}, True)
    assert run.next()["step"] == 20
    book.done(result(stopped=True))
    end_workers(run)
    assert run.next()["state"] == "waiting"


class Uploads:
    """The clock of a trial whose first worker has said that it is done, while the other writes for `seconds`."""

    def __init__(self, run: TrialRun, monkeypatch: pytest.MonkeyPatch, seconds: float, *, stopped: bool) -> None:
        self.now = 0.0
        monkeypatch.setattr("distmed.train.stall.time.monotonic", lambda: self.now)
        training: Any = run.training
        training.is_alive = lambda: self.now < seconds
        training.wait = self._wait
        self.book: Any = run.book  # type: ignore[attr-defined]
        for rank in (0, 1):
            self.book.worker_starts(Place(rank, "a host", "its id", 1, 0, 2))
        self.book.steps_end()
        self.book.done(result(stopped=stopped))

    def _wait(self, seconds: float) -> None:
        self.now += seconds


@pytest.mark.parametrize("stopped", [False, True])
def test_the_last_checkpoint_is_written_by_all_workers(
    run: TrialRun, monkeypatch: pytest.MonkeyPatch, stopped: bool
) -> None:
    uploads = Uploads(run, monkeypatch, 60, stopped=stopped)
    assert run.next()["state"] == ("waiting" if stopped else "done")
    assert uploads.now >= 60


def test_a_last_checkpoint_of_which_nothing_is_heard_is_not_waited_for_without_end(
    run: TrialRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    uploads = Uploads(run, monkeypatch, 10**6, stopped=False)
    assert run.next()["state"] == "done"
    assert 900 <= uploads.now < 1000


def test_a_full_disk_that_the_last_checkpoint_of_another_worker_meets_pauses_the_trial(
    run: TrialRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    uploads = Uploads(run, monkeypatch, 60, stopped=False)
    tell_full(uploads.book)
    assert run.next()["state"] == "waiting"


@pytest.mark.parametrize("scheduler", ["asha", "pbt"])
def test_a_budget_pauses_what_runs_ranks_it_and_a_larger_one_goes_on_with_it(
    search: Search, run: TrialRun, tmp_path: Path, scheduler: str
) -> None:
    search.close("tune.time_s=10 ended")
    run.book.abandon("the budget is used up")  # type: ignore[attr-defined]
    search.reported(0, {"done": True, "state": "waiting", "cause": ""})
    search.reported(1, run.next())
    assert [rank.trials for rank in ranking(search.trials, mode="max", seeds=1)] == [[0], [1]]
    again = make(tmp_path, scheduler=scheduler, time_s=100000, trials=2)
    assert not again.proposals.finished
    assert [again.propose(name)["trial"] for name in "ab"] == [0, 1]  # type: ignore[index]


def test_a_search_that_was_given_up_has_failed_and_goes_on_with_all_of_its_trials(
    search: Search, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Status 1: under Slurm a job that has lost a host is then requeued."""
    search.give_up("a trial needs 4 workers", "--resume when there are hosts")
    for number in (0, 1):
        search.reported(number, {"done": True, "state": "waiting", "cause": ""})
    monkeypatch.setattr(command, "_watch", lambda *_: None)
    monkeypatch.setattr("distmed.tune.table.write_tables", lambda search: None)
    display, signals = MagicMock(), MagicMock(asked=False)
    assert command._run(search, MagicMock(), display, MagicMock(), signals, MagicMock()) == FAILED
    assert [call.args[0] for call in display.note.call_args_list] == list(search.given_up or ())
    assert [trial.number for trial in make(tmp_path).proposals.waiting] == [0, 1]


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
        train__eval_every=4,
        checkpoint={"best": "diag/macro_f1", "keep": 1, "storage_path": str(disk("40m"))},
    )
    assert door.status(values) == 2
    assert "no space left" in door.said()
    run = door.folder / "runs" / "small"
    assert [trial.state for trial in Record(run / "search.jsonl").trials.values()] == ["done", "waiting"]
    disk("400m")
    assert door.status(values, "--resume") == 0
    assert [row["state"] for row in table(run)] == ["done"] * 2


@pytest.mark.slow
@pytest.mark.usefixtures("ray_address")
def test_a_full_disk_that_only_the_data_of_a_setting_meet_pauses_it(
    door: TuneDoor, disk: Callable[[str], Path]
) -> None:
    """20,000 cases take 1.3 MB."""
    run = door.folder / "runs" / "small"
    run.mkdir(parents=True)
    (run / "data").symlink_to(disk("1m"))
    values = changed(
        SMALL,
        tune={"search": "grid", "scheduler": "none", "concurrency": 1},
        tune__space={"data.train.0.limit": {"choice": [100, 20000]}},
    )
    assert door.status(values) == 2
    assert "cannot write shards into" in door.said()
    assert [trial.state for trial in Record(run / "search.jsonl").trials.values()] == ["done", "waiting"]
    disk("100m")
    assert door.status(values, "--resume") == 0
    assert [row["state"] for row in table(run)] == ["done", "done"]
