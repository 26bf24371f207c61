"""Who is to blame when workers end: the one that died, though its peers may be heard first."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from ray.exceptions import ActorDiedError

from distmed.train import failures, stall
from distmed.train.failures import Failures
from distmed.train.stall import Place

PLACES = {0: Place(0, "10.0.0.1", "a", 11, 0, 3), 1: Place(1, "10.0.0.2", "b", 12, 0, 3)}


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
    listening: int,
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
    monkeypatch.setattr(failures, "ray", FakeRay([host("b", listening)]))
    Failures(logbook(told)).after_exception(None, errors)
    ((_, blamed, lost, _),) = told
    assert (blamed, lost, seen) == (died, [], asked)


def test_a_host_where_nobody_listens_is_lost_and_ray_is_waited_for(
    monkeypatch: pytest.MonkeyPatch, listening: int
) -> None:
    told: list[Any] = []
    ray = FakeRay([host("a", listening), host("b", closed_port())], dies_after=5)
    monkeypatch.setattr(failures, "ray", ray)
    monkeypatch.setattr(stall, "on_hosts", lambda places, do, within_s: dict.fromkeys(places, stall.LIVES))
    Failures(logbook(told)).after_exception(None, {0: RuntimeError("Connection reset by peer")})
    ((_, blamed, lost, _),) = told
    assert (blamed, lost) == ([1], ["b"])
    assert not ray.hosts[1]["Alive"]
    assert ray.recomputed == [False], "the elastic policy looks again once the host is known to be dead, not before"


def test_a_host_that_ray_knows_to_be_lost_is_shown_to_the_elastic_policy(
    monkeypatch: pytest.MonkeyPatch, listening: int
) -> None:
    """Its health checks had failed before the end of the workers was heard; workers would be started there in vain."""
    told: list[Any] = []
    ray = FakeRay([host("a", listening), {**host("b", closed_port()), "Alive": False}])
    monkeypatch.setattr(failures, "ray", ray)
    Failures(logbook(told)).after_exception(None, {1: PollError(ActorDiedError())})
    assert told[0][1:] == ([1], ["b"], False)
    assert ray.recomputed == [False]


def test_a_host_that_was_taken_away_with_notice_is_no_failure(monkeypatch: pytest.MonkeyPatch, listening: int) -> None:
    told: list[Any] = []
    monkeypatch.setattr(failures, "ray", FakeRay([host("a", listening)]))
    taken = ActorDiedError()
    taken._preempted = True
    assert taken.preempted
    Failures(logbook(told)).after_exception(None, {0: RuntimeError("Connection reset by peer"), 1: PollError(taken)})
    assert told[0][3]


def test_a_host_that_comes_back_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(failures, "ray", FakeRay([host("b", closed_port())]))
    answers = iter([{"b"}, set()])
    monkeypatch.setattr(failures, "unreachable", lambda: next(answers))
    failures.wait_until_known({"b"})
    assert next(answers, None) is None


class FakeRay:
    """Hosts, of which the last one is known to be dead after it was asked for so often."""

    def __init__(self, hosts: list[dict[str, Any]], dies_after: int = -1) -> None:
        self.hosts, self._left = hosts, dies_after
        self.recomputed: list[bool] = []

    def nodes(self) -> list[dict[str, Any]]:
        self._left -= 1
        if self._left == 0:
            self.hosts[-1]["Alive"] = False
        return self.hosts

    def get(self, answer: Any) -> Any:
        return answer

    def get_actor(self, name: str, namespace: str) -> Any:
        def remote(requester: str, *, recompute: bool) -> None:
            self.recomputed.append(self.hosts[-1]["Alive"])

        return SimpleNamespace(get_reserved_resources=SimpleNamespace(remote=remote))


def logbook(told: list[Any]) -> Any:
    return SimpleNamespace(
        whereabouts=SimpleNamespace(remote=lambda: PLACES),
        workers_failed=SimpleNamespace(remote=lambda *words: told.append(words)),
    )


def host(name: str, port: int) -> dict[str, Any]:
    return {"NodeID": name, "Alive": True, "NodeManagerAddress": "127.0.0.1", "NodeManagerPort": port}


def closed_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


@pytest.fixture
def listening() -> Iterator[int]:
    """A port where somebody listens."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield int(server.getsockname()[1])
