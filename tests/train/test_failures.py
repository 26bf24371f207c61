"""Who is to blame when workers end: the one that died, though its peers may be heard first."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from ray.exceptions import ActorDiedError

from distmed.train import failures, stall
from distmed.train.failures import Failures
from distmed.train.stall import Place

PLACES = {0: Place(0, "10.0.0.1", "a", 11, 3), 1: Place(1, "10.0.0.2", "b", 12, 3)}


class PollError(Exception):
    """As Ray Train wraps what a poll met."""

    def __init__(self, failure: Exception) -> None:
        super().__init__(f"A worker health check failed.\n{failure}")
        self.health_check_failure = failure


@pytest.mark.parametrize(
    ("errors", "answers", "died", "asked"),
    [
        ({1: PollError(ActorDiedError())}, {}, [1], []),
        ({0: RuntimeError("Connection reset by peer")}, {1: stall.GONE}, [1], [1]),
        ({0: RuntimeError("Connection reset by peer")}, {1: "no answer: GetTimeoutError"}, [1], [1]),
        ({0: RuntimeError("out of memory")}, {1: stall.LIVES}, [], [1]),
        ({0: RuntimeError("a"), 1: RuntimeError("b")}, {}, [], []),
    ],
)
def test_a_worker_that_died_is_found_behind_the_errors_of_its_peers(
    monkeypatch: pytest.MonkeyPatch,
    errors: dict[int, Exception],
    answers: dict[int, str],
    died: list[int],
    asked: list[int],
) -> None:
    told: list[Any] = []
    seen: list[int] = []

    def on_hosts(places: list[Place], do: Any, within_s: float) -> dict[int, str]:
        assert do is stall.lives
        seen.extend(place.rank for place in places)
        return answers

    monkeypatch.setattr(stall, "on_hosts", on_hosts)
    ray = SimpleNamespace(get=lambda answer: answer, nodes=lambda: [{"NodeID": "b", "Alive": True}])
    monkeypatch.setattr(failures, "ray", ray)
    logbook = SimpleNamespace(
        whereabouts=SimpleNamespace(remote=lambda: PLACES),
        workers_failed=SimpleNamespace(remote=lambda *words: told.append(words)),
    )
    Failures(logbook).after_exception(None, errors)
    ((_, blamed, lost),) = told
    assert (blamed, lost, seen) == (died, [], asked)
