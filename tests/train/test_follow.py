"""The driver's loop over workers that a test plays: groups that end to go on, signals between two, a lock that is lost."""

from __future__ import annotations

import os
import signal
import threading
from types import SimpleNamespace
from typing import Any

import pytest
from ray.exceptions import ActorDiedError

from distmed.errors import UserError
from distmed.recipe import Cluster
from distmed.signals import StopSignals
from distmed.train import driver
from distmed.train.watch import Watch

ENDED = threading.Event()


def until_ended() -> None:
    """Workers that go on until Ray Train's controller is told to end them."""
    assert ENDED.wait(60)
    raise ActorDiedError


def training() -> bool:
    """Whether a thread still asks Ray things: what leaves Ray then is ended by it, with a status of Ray's."""
    return "trainer" in {thread.name for thread in threading.enumerate()}


@pytest.mark.parametrize("ends", ["by itself", "stopped", "broken"])
def test_a_run_that_ended_to_grow_goes_on_unless_it_was_asked_to_stop_or_cannot(
    monkeypatch: pytest.MonkeyPatch, ends: str
) -> None:
    """The signal comes when the workers have ended and before there are more."""
    events: list[dict[str, Any]] = []
    groups = 0

    def fit(*_: Any, **__: Any) -> None:
        nonlocal groups
        groups += 1
        result = {"state": {"step": 4 * groups}, "stopped": groups == 1, "grows": groups == 1}
        events.append({"kind": "done", "result": result})
        if ends == "broken":
            events.append({"kind": "fatal", "reason": "user", "message": "the disk is full", "hint": "free some"})
        if ends == "stopped":
            os.kill(os.getpid(), signal.SIGUSR1)

    watch = followed(monkeypatch, fit, events, asked := [])
    assert watch.result is not None
    expected = {"by itself": (2, False, 0), "stopped": (1, True, 1), "broken": (1, True, 0)}
    assert (groups, watch.result["stopped"], len(asked)) == expected[ends]


def test_a_signal_ends_a_run_that_waits_for_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ray waits for hosts that do not come: nobody is there to finish a step."""

    def fit(*_: Any, **__: Any) -> None:
        os.kill(os.getpid(), signal.SIGUSR1)
        until_ended()

    watch = followed(monkeypatch, fit, [], asked := [])
    assert watch.waits and watch.error is None
    assert len(asked) == 1 and not training()


def followed(
    monkeypatch: pytest.MonkeyPatch, fit: Any, events: list[dict[str, Any]], asked: list[bool], *, lost: bool = False
) -> Watch:
    """The driver's loop over workers that `fit` plays; `asked` counts wishes to stop, `lost`: the lock was taken over."""

    def news() -> list[dict[str, Any]]:
        taken = events[:]
        events.clear()
        return taken

    ENDED.clear()
    controller = SimpleNamespace(abort=SimpleNamespace(remote=ENDED.set))
    logbook: Any = SimpleNamespace(
        news=SimpleNamespace(remote=news),
        ask_to_stop=SimpleNamespace(remote=lambda: asked.append(True)),
        controller_is=SimpleNamespace(remote=lambda _: None),
        controller=SimpleNamespace(remote=lambda: controller),
    )
    job: Any = SimpleNamespace(recipe=SimpleNamespace(cluster=Cluster(num_workers=(1, 3))))
    progress: Any = SimpleNamespace(note=lambda text: None)
    lock: Any = SimpleNamespace(
        lost=lost, taken=lambda: UserError("run a is being trained by process 1", "wait for it")
    )
    monkeypatch.setattr("ray.get", lambda value, timeout=None: value)
    monkeypatch.setattr("ray.kill", lambda controller: None)
    monkeypatch.setattr("distmed.train.workers.fit", fit)
    with StopSignals() as signals:
        return driver._follow(job, logbook, progress, signals, lock)


def test_a_driver_whose_lock_was_taken_over_ends_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """It was paused for longer than a lock lives: two drivers of one run would write over each other."""
    with pytest.raises(UserError, match="is being trained by process 1"):
        followed(monkeypatch, lambda *_, **__: until_ended(), [], [], lost=True)
    assert not training()
