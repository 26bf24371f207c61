"""Saving beside the loop: what it waits for, and that nothing which an upload met is lost."""

from __future__ import annotations

import errno
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import ray.train

from distmed.checkpoint import folder as folders
from distmed.checkpoint.save import HostMemory
from distmed.errors import UserError
from distmed.train.saver import LEAST_PATIENCE_S, LOOK_S, Saver, Upload
from distmed.train.state import Best, RunState
from tests.checkpoint import make


def test_the_last_upload_is_waited_for_and_its_failure_told() -> None:
    saver = cast(Saver, Saver.__new__(Saver))
    upload: Future[None] = Future()
    saver.failed, saver.hangs, saver.moved = None, False, 0.0
    saver.uploads = [Upload(cast(Any, Taken()), upload)]
    saver.job = cast(Any, SimpleNamespace(recipe=SimpleNamespace(checkpoint=SimpleNamespace(retry_s=10))))

    def fail() -> None:
        saver.failed = UserError("no space left", "free some")
        upload.set_result(None)

    threading.Timer(0.2, fail).start()
    with pytest.raises(UserError, match="no space left"):
        saver.finish()


class Taken:
    """A snapshot whose writing fails as the list of errors says, then works."""

    def __init__(self, *errors: Exception, reads_engine: bool = False) -> None:
        self.errors = list(errors)
        self.tried = 0
        self.reads_engine = reads_engine
        self.copies: list[Any] = []
        self.progressed = time.monotonic()

    def write(self, *where: Any) -> None:
        self.tried += 1
        self.where = where
        if self.errors:
            raise self.errors.pop(0)


@pytest.fixture
def saver(monkeypatch: pytest.MonkeyPatch) -> Saver:
    """With ten seconds of patience, and a clock that only sleeping moves."""
    now = [0.0]
    monkeypatch.setattr("distmed.train.saver.time.monotonic", lambda: now[0])
    monkeypatch.setattr("distmed.train.saver.time.sleep", lambda seconds: now.__setitem__(0, now[0] + seconds))
    made = cast(Any, Saver.__new__(Saver))
    made.said, made.written, made.failed, made.hangs, made.bests = [], [], None, False, []
    made.engine, made.known, made.attempt, made.last_step = None, {}, 0, 30
    made.uploads, made.memory, made.moved = [], HostMemory(), 0.0
    made.job = SimpleNamespace(
        checkpoints="/store/a",
        recipe=SimpleNamespace(
            checkpoint=SimpleNamespace(retry_s=10),
            cluster=SimpleNamespace(stall_timeout_s=900),
            model=SimpleNamespace(init="pretrained"),
        ),
    )
    made.logbook = SimpleNamespace(
        storage_fails=SimpleNamespace(remote=lambda step, text: made.said.append(text)),
        note=SimpleNamespace(remote=lambda text: made.said.append(text)),
        saved=SimpleNamespace(remote=lambda step, world: made.written.append((step, world))),
    )
    return cast(Saver, made)


WHERE = "/store/a/step"


def test_a_storage_that_fails_for_a_while_is_tried_again_and_said(saver: Any) -> None:
    taken = Taken(OSError(errno.EIO, "Input/output error"), TimeoutError("no answer"))
    saver._write(taken, WHERE, 40)
    assert taken.tried == 3
    assert saver.said[0] == (
        "the checkpoint of step 40 cannot be written (Input/output error: /store/a): tried again for 10 s"
    )


def test_a_storage_that_stays_away_stops_the_run_after_the_stated_time(saver: Any) -> None:
    taken = Taken(*[OSError(errno.EIO, "Input/output error") for _ in range(99)])
    with pytest.raises(UserError) as stopped:
        saver._write(taken, WHERE, 40)
    assert stopped.value.message == (
        "the checkpoint of step 40 cannot be written for 10 s (checkpoint.retry_s): Input/output error: /store/a"
    )
    assert "older checkpoints are untouched" in stopped.value.hint
    assert taken.tried == 6


def test_a_storage_that_is_read_only_is_told_at_once(saver: Any) -> None:
    taken = Taken(OSError(errno.EROFS, "Read-only file system"))
    with pytest.raises(UserError, match="Read-only file system: /store/a"):
        saver._write(taken, WHERE, 40)
    assert taken.tried == 1


@pytest.mark.parametrize("on_nvme", [False, True])
def test_the_loop_waits_for_the_upload_of_state_on_nvme_alone(
    saver: Any, monkeypatch: pytest.MonkeyPatch, on_nvme: bool
) -> None:
    taken, later = Taken(reads_engine=on_nvme), []

    def report(metrics: Any, checkpoint: Any, checkpoint_upload_mode: Any, checkpoint_upload_fn: Any, **_: Any) -> None:
        if checkpoint_upload_mode == ray.train.CheckpointUploadMode.SYNC:
            checkpoint_upload_fn(checkpoint, "")
        else:
            later.append(lambda: checkpoint_upload_fn(checkpoint, ""))

    monkeypatch.setattr("distmed.train.saver.snapshot", lambda *_, **__: taken)
    monkeypatch.setattr("distmed.train.saver.ray.train.report", report)
    monkeypatch.setattr("distmed.train.saver.dist", group())
    saver.save(RunState(step=40), SimpleNamespace(state=lambda k: {}), needed=False)
    assert taken.tried == (1 if on_nvme else 0)
    for upload in later:
        upload()
    saver.finish()
    assert taken.tried == 1
    assert saver.written == [(40, 2)]


@pytest.mark.parametrize("root", ["s3://bucket/runs/a", "/store/a"])
def test_checkpoints_are_written_by_the_client_that_reads_them(
    saver: Any, monkeypatch: pytest.MonkeyPatch, root: str
) -> None:
    """Ray's own client of an object store keeps all it is given in memory until that is sent. Ray hears where it lies."""
    taken, told = Taken(), []

    def report(_: Any, checkpoint: Any, checkpoint_upload_fn: Any, **__: Any) -> None:
        told.append(checkpoint_upload_fn(checkpoint, "") is checkpoint)

    monkeypatch.setattr("distmed.train.saver.snapshot", lambda *_, **__: taken)
    monkeypatch.setattr("distmed.train.saver.ray.train.report", report)
    at_ray = lambda url: SimpleNamespace(path=url, filesystem="a client of pyarrow")  # noqa: E731
    monkeypatch.setattr("distmed.train.saver.ray.train.Checkpoint", at_ray)
    monkeypatch.setattr("distmed.train.saver.dist", group())
    saver.job.checkpoints = root
    saver.save(RunState(step=40), SimpleNamespace(state=lambda k: {}), needed=False)
    assert taken.where == (f"{root}/{folders.name(40, 2, 0)}",)
    assert told == [True]


def test_what_is_told_in_the_end_is_what_failed_first(saver: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A full disk; the last checkpoint of the run then meets a folder that another worker takes away."""
    monkeypatch.setattr("distmed.train.saver.dist", group())
    for error in (UserError("no space left for the checkpoint", "free some"), FileExistsError(17, "File exists")):
        saver._upload(Upload(cast(Any, Taken(error)), Future()), WHERE, 9, None)
    assert saver.failed.message == "no space left for the checkpoint"


def group(waiting_elsewhere: Callable[[], int] = lambda: 0, rank: int = 1) -> Any:
    """Two ranks, of which this is the second; on the other so many snapshots wait."""

    def all_gather_object(found: list[Any], mine: Any) -> None:
        found[:] = [(waiting_elsewhere(), False), mine]

    return SimpleNamespace(get_world_size=lambda: 2, get_rank=lambda: rank, all_gather_object=all_gather_object)


@pytest.mark.parametrize("needed", [False, True])
def test_copies_do_not_pile_up_before_a_slow_storage(saver: Any, monkeypatch: pytest.MonkeyPatch, needed: bool) -> None:
    """What is not needed is left out, on all ranks and said; what is needed waits until those before it are written."""
    taken: list[int] = []
    monkeypatch.setattr("distmed.train.saver.snapshot", lambda *_, **__: taken.append(1) or Taken())
    monkeypatch.setattr("distmed.train.saver.ray.train.report", lambda *_, **__: None)
    monkeypatch.setattr("distmed.train.saver.dist", group(lambda: 2 if time.monotonic() < 5 else 0))
    saver.save(RunState(step=40), SimpleNamespace(state=lambda k: {}), needed=needed)
    assert (saver.last_step, len(taken), time.monotonic() >= 5) == ((40, 1, True) if needed else (30, 0, False))
    assert saver.said == (
        [] if needed else ["the checkpoint of step 40 is left out: the storage still takes the 2 before it"]
    )


@pytest.mark.parametrize(
    ("rank", "stall_timeout_s", "told"), [(0, 900, [60, 120, 180]), (0, 100, [50, 100, 150]), (1, 900, [])]
)
def test_the_driver_hears_of_a_loop_that_waits_for_the_storage(
    saver: Any, monkeypatch: pytest.MonkeyPatch, rank: int, stall_timeout_s: float, told: list[int]
) -> None:
    """It would take workers that it hears nothing of for stalled and end them."""
    monkeypatch.setattr("distmed.train.saver.snapshot", lambda *_, **__: Taken())
    monkeypatch.setattr("distmed.train.saver.ray.train.report", lambda *_, **__: None)
    monkeypatch.setattr("distmed.train.saver.dist", group(lambda: 2 if time.monotonic() < 190 else 0, rank))
    saver.job.recipe.cluster.stall_timeout_s = stall_timeout_s
    saver.save(RunState(step=40), SimpleNamespace(state=lambda k: {}), needed=True)
    assert saver.last_step == 40
    assert saver.said == [
        f"the checkpoint of step 40 has waited for {seconds} s: the storage still takes the 2 before it"
        for seconds in told
    ]


def test_a_storage_that_takes_nothing_and_says_nothing_stops_the_run(
    saver: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As of a mounted server that is gone: a write neither fails nor ends. No rank saves after it, nobody waits for ever."""
    monkeypatch.setattr("distmed.train.saver.dist", group())
    saver.uploads = [Upload(cast(Any, Taken()), Future())]
    save = lambda: saver.save(RunState(step=40), SimpleNamespace(state=lambda k: {}), needed=True)  # noqa: E731
    time.sleep(LEAST_PATIENCE_S - LOOK_S)
    assert not saver._hung()
    time.sleep(2 * LOOK_S)
    save()
    assert saver.last_step == 30
    assert saver.failed.message == "/store/a has taken nothing for 60 s and does not say why"
    with pytest.raises(UserError, match="has taken nothing"):
        saver.finish()
    alone = cast(Any, Saver.__new__(Saver))
    alone.__dict__.update(saver.__dict__, failed=None, hangs=False)
    with pytest.raises(UserError, match="has taken nothing"):
        alone.finish()


def test_a_slow_storage_is_not_taken_for_a_dead_one(saver: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second snapshot waits for longer than a storage may be silent, while the first is taken bit by bit."""
    monkeypatch.setattr("distmed.train.saver.dist", group())

    def write_slowly(*_: Any) -> None:
        for _ in range(20):
            time.sleep(LEAST_PATIENCE_S / 10)
            first.progressed = time.monotonic()
            assert not saver._hung()

    first, second = cast(Any, Taken()), cast(Any, Taken())
    first.write = write_slowly
    saver.uploads = [Upload(first, Future()), Upload(second, Future())]
    saver._upload(saver.uploads[0], WHERE, 40, None)
    assert not saver._hung()
    time.sleep(LEAST_PATIENCE_S + 1)
    assert saver._hung()


def test_old_checkpoints_that_cannot_be_removed_do_not_end_the_training(
    saver: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr("distmed.train.saver.folders.prune", fail)
    saver.job.recipe.checkpoint.keep = 2
    saver._prune(40, None)
    assert saver.said == ["old checkpoints stay for now: OSError: [Errno 5] Input/output error"]


def test_the_best_checkpoint_stays_until_a_better_one_is_whole(
    saver: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The first rank has written the new best and takes old ones away, while the other still writes, or dies."""
    parts: dict[int, Any] = {}

    def report(_: Any, checkpoint: Any, checkpoint_upload_fn: Any, **__: Any) -> None:
        checkpoint_upload_fn(checkpoint, "")

    def first_writes(step: int, best: int) -> None:
        mine, parts[step] = make.snapshots(make.weights(step), 2)
        monkeypatch.setattr("distmed.train.saver.snapshot", lambda *_, **__: mine)
        saver.save(RunState(step=step, best=Best(0.5, best)), SimpleNamespace(state=lambda k: {}), needed=True)

    def second_writes(step: int) -> None:
        parts[step].write(tmp_path / folders.name(step, 2, 0))

    def steps() -> list[int]:
        return [found.step for found in folders.names(tmp_path)]

    monkeypatch.setattr("distmed.train.saver.dist", group(rank=0))
    monkeypatch.setattr("distmed.train.saver.ray.train.report", report)
    for step in (20, 70, 80, 90):
        make.write(tmp_path, step)
    saver.job.checkpoints = str(tmp_path)
    saver.job.recipe.checkpoint.keep, saver.bests = 1, [20]
    first_writes(100, best=100)
    assert steps() == [20, 90, 100]
    first_writes(105, best=100)
    second_writes(100)
    first_writes(110, best=110)
    assert steps() == [100, 105, 110]
    second_writes(105)
    first_writes(120, best=110)
    assert steps() == [100, 105, 110, 120], "the newest whole one has 100 as its best"
    second_writes(110)
    first_writes(130, best=110)
    assert steps() == [110, 120, 130]
    assert saver.said == []
