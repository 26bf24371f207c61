"""What the logbook tells of a run that begins, breaks and goes on."""

from __future__ import annotations

import json
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from distmed import shipped
from distmed.recipe_file import load_recipe
from distmed.train.logbook import STOP_ASKED_EVERY_S, Logbook, StopWish, _cause
from distmed.train.stall import Place


@pytest.fixture
def logbook(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Logbook:
    monkeypatch.setenv("WANDB_MODE", "disabled")
    return Logbook(load_recipe(shipped.folder("recipes") / "smoke.yaml"), tmp_path, 0, {})


PLACES = {rank: Place(rank, f"10.0.0.{rank + 1}", "ab"[rank], 11 + rank, 0, 3) for rank in range(2)}


def workers(logbook: Logbook, world: int = 2) -> None:
    for rank in range(world):
        logbook.worker_starts(PLACES[rank])


def texts(logbook: Logbook, kind: str) -> list[str]:
    return [event["text"] for event in logbook.news() if event["kind"] == kind]


def die(logbook: Logbook, rank: int) -> None:
    logbook.workers_failed({rank: "gone"}, [rank], [])


def test_every_group_that_broke_is_counted_also_while_it_loaded(logbook: Logbook) -> None:
    workers(logbook)
    die(logbook, 0)
    workers(logbook)
    die(logbook, 1)
    workers(logbook)
    logbook.attempt_starts(0, 2, [])
    assert texts(logbook, "restart") == [
        "restart 2: worker on 10.0.0.1 died, then worker on 10.0.0.2 died; 0 steps repeated; goes on after step 0"
    ]


def test_a_failure_that_ray_tells_twice_is_one(logbook: Logbook) -> None:
    workers(logbook)
    logbook.attempt_starts(0, 2, [])
    logbook.log(3, {"train/loss": 1.0}, {}, False)
    die(logbook, 1)
    die(logbook, 1)
    workers(logbook)
    logbook.attempt_starts(2, 2, [])
    assert texts(logbook, "restart") == ["restart 1: worker on 10.0.0.2 died; 1 step repeated; goes on after step 2"]


def test_a_worker_that_dies_after_the_loop_ended_to_grow_is_a_restart(logbook: Logbook) -> None:
    workers(logbook)
    logbook.attempt_starts(0, 2, [])
    logbook.log(4, {"train/loss": 1.0}, {}, False)
    logbook.done({"grows": True})
    die(logbook, 1)
    workers(logbook)
    logbook.attempt_starts(2, 2, [])
    assert texts(logbook, "restart") == ["restart 1: worker on 10.0.0.2 died; 2 steps repeated; goes on after step 2"]


def test_workers_that_leave_a_host_go_on_without_a_restart(logbook: Logbook) -> None:
    workers(logbook)
    logbook.attempt_starts(0, 2, [])
    logbook.ask_to_leave(True)
    assert logbook.stop_asked()
    logbook.log(4, {"train/loss": 1.0}, {}, False)
    logbook.done({"grows": False})
    logbook.ask_to_leave(False)
    workers(logbook, 1)
    logbook.attempt_starts(4, 1, [])
    assert not logbook.stop_asked()
    assert list(logbook.whereabouts()) == [0], "what was known of rank 1 is of a group that is gone"
    assert texts(logbook, "note") == ["goes on after step 4 on 1 workers instead of 2; no step repeated"]


def test_a_checkpoint_is_told_once_all_ranks_wrote_their_part(logbook: Logbook) -> None:
    def saved() -> list[int]:
        return [event["step"] for event in logbook.news() if event["kind"] == "saved"]

    workers(logbook)
    logbook.attempt_starts(0, 2, [])
    logbook.saved(4, 2)
    assert saved() == []
    die(logbook, 1)
    workers(logbook)
    logbook.attempt_starts(2, 2, [])
    logbook.saved(4, 2)
    assert saved() == [], "the part of an attempt that is over does not count"
    logbook.saved(4, 2)
    assert saved() == [4]


def test_what_tracking_has_to_say_later_is_told(logbook: Logbook) -> None:
    logbook.news()
    logbook.tracker.notes.append("W&B stopped (Error): metrics.jsonl goes on without it")
    assert texts(logbook, "note") == ["W&B stopped (Error): metrics.jsonl goes on without it"]
    assert texts(logbook, "note") == []


def test_a_late_evaluation_is_in_the_metrics_once(logbook: Logbook) -> None:
    """A stop at step 40 left it out; the attempts after it die before their first checkpoint, and each makes it."""
    logbook.attempt_starts(0, 1, [])
    logbook.log(30, {"train/loss": 2.0}, {"eval/loss": 0.9}, True)
    logbook.log(40, {"train/loss": 1.0}, {}, True)
    for loss in (0.5, 0.5, 0.6):
        logbook.attempt_starts(40, 1, [])
        logbook.log_late(40, {"eval/loss": loss})
        logbook.log(50, {"train/loss": 0.7}, {}, True)
    logged = [json.loads(line) for line in logbook.run.metrics.read_text().splitlines()]
    assert [(line["step"], line.get("train/loss"), line.get("eval/loss")) for line in logged] == [
        (30, 2.0, 0.9),
        (40, 1.0, None),
        (40, None, 0.6),
        (50, 0.7, None),
    ]
    assert logged[2]["attempt"] == 3


@pytest.mark.parametrize(
    ("errors", "died", "lost", "cause"),
    [
        ({0: "gloo", 1: "gone"}, [1], [], "worker on 10.0.0.2 died"),
        ({0: "gloo", 1: "gone"}, [1], ["b"], "host 10.0.0.2 was lost"),
        ({0: "RuntimeError: out of memory"}, [], [], "worker on 10.0.0.1 failed: RuntimeError: out of memory"),
        ({}, [], [], "worker on 10.0.0.1 failed: no reason given"),
    ],
)
def test_the_cause_of_a_restart(errors: dict[int, str], died: list[int], lost: list[str], cause: str) -> None:
    assert _cause(PLACES, errors, died, lost) == cause


def test_a_wish_to_stop_is_seen_within_the_step_in_which_it_comes(monkeypatch: pytest.MonkeyPatch) -> None:
    wish = [False]
    monkeypatch.setattr("ray.get", lambda value: value)
    logbook = SimpleNamespace(stop_asked=SimpleNamespace(remote=lambda: wish[0]))
    listens, hears_nothing = (StopWish(logbook, listens=first) for first in (True, False))
    time.sleep(2 * STOP_ASKED_EVERY_S)
    assert not listens.seen()
    wish[0] = True
    time.sleep(5 * STOP_ASKED_EVERY_S)  # a step without a call
    assert listens.seen() and not hears_nothing.seen()
