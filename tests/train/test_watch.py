"""What the driver does while workers train, without a cluster: stalls, growth, hosts that do not come back."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from distmed.recipe import Cluster
from distmed.train import stall, watch
from distmed.train.stall import Place
from distmed.train.watch import Watch
from distmed.train.workers import left

PLACES = [Place(0, "10.0.0.1", "a", 11, 0, 3), Place(1, "10.0.0.2", "b", 12, 0, 3)]


class World:
    """A clock, a room for workers, what was asked of the logbook, and what was said."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, cluster: Cluster) -> None:
        self.now, self.room, self.free = 0.0, 2, 0
        self.asked: list[bool] = []
        self.leaves: list[bool] = []
        self.draining: set[str] = set()
        self.said: list[str] = []
        self.ended: list[Place] = []
        monkeypatch.setattr(watch.time, "monotonic", lambda: self.now)
        monkeypatch.setattr(watch.session, "places", lambda: [1] * self.room)
        monkeypatch.setattr(watch.session, "free_places", lambda: self.free)
        monkeypatch.setattr(watch.session, "draining", lambda: self.draining)
        monkeypatch.setattr(stall, "on_hosts", self._on_hosts)
        progress: Any = SimpleNamespace(note=self.said.append, step=lambda *_, **__: None)
        logbook: Any = SimpleNamespace(
            ask_to_grow=SimpleNamespace(remote=self.asked.append),
            ask_to_leave=SimpleNamespace(remote=self.leaves.append),
        )
        self.watch = Watch(cluster, logbook, progress)

    def _on_hosts(self, places: list[Place], do: Any) -> dict[int, str]:
        if do is stall.end:
            self.ended += places
        return {place.rank: "its stack" for place in places}

    def starts(self, world: int = 2) -> None:
        for place in PLACES[:world]:
            self.watch.take({"kind": "worker", "place": place})
        self.watch.take({"kind": "attempt", "world": world})
        self.step(1)

    def step(self, number: int) -> None:
        self.watch.take({"kind": "step", "step": number, "metrics": {}, "shown": False})

    def after(self, seconds: float) -> None:
        self.now += seconds
        self.watch.look()


def test_workers_without_a_step_are_shown_and_ended_once(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    world = World(monkeypatch, Cluster(num_workers=2, stall_timeout_s=60))
    world.starts()
    world.after(59)
    assert not world.ended
    world.step(2)
    world.after(59)
    assert not world.ended
    world.after(2)
    assert world.ended == PLACES
    assert "stacks of rank 1 on 10.0.0.2, process 12\nits stack" in capsys.readouterr().err
    world.after(10)
    assert world.ended == PLACES


def test_the_last_upload_is_no_stall(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(monkeypatch, Cluster(num_workers=2, stall_timeout_s=60))
    world.starts()
    world.watch.take({"kind": "ending"})
    world.after(1000)
    assert not world.ended
    world.watch.take({"kind": "failed", "cause": "worker on 10.0.0.2 died", "preempted": False})
    world.starts()
    world.after(61)
    assert world.ended == PLACES, "those that go on after it are watched again"


def test_a_run_grows_only_into_what_nobody_holds_and_as_the_recipe_lets_it(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(monkeypatch, Cluster(num_workers=(1, 3)))
    world.starts()
    world.room = 5
    world.after(6)
    assert world.asked == []
    world.free = 3
    world.after(6)
    world.after(6)
    assert world.asked == [True]
    assert any("room for 3 workers" in text for text in world.said)
    world.free = 0
    world.after(6)
    assert world.asked == [True, False]
    fixed = World(monkeypatch, Cluster(num_workers=2))
    fixed.starts()
    fixed.free = 3
    fixed.after(6)
    assert fixed.asked == []


def test_a_run_that_ended_to_grow_in_vain_does_not_do_so_again_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(monkeypatch, Cluster(num_workers=(1, 3)))
    world.starts()
    world.free = 1
    world.after(6)
    world.watch.begin()
    world.starts()
    assert any("no room for 3 workers: tried again in 300 s" in text for text in world.said)
    for _ in range(45):
        world.after(6)
    assert world.asked == [True]
    for _ in range(10):
        world.after(6)
    assert world.asked == [True, True]
    world.watch.begin()
    for place in PLACES:
        world.watch.take({"kind": "worker", "place": place})
    world.watch.take({"kind": "attempt", "world": 3})
    assert sum("no room for" in text for text in world.said) == 1


def test_what_workers_said_at_their_end_does_not_count_when_one_of_them_died_after(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    world = World(monkeypatch, Cluster(num_workers=2))
    world.starts()
    world.watch.take({"kind": "done", "result": {"grows": False}})
    assert world.watch.result is not None
    world.watch.take({"kind": "failed", "cause": "worker on 10.0.0.2 died", "preempted": False})
    assert world.watch.result is None


def test_a_run_that_lost_its_hosts_waits_as_long_as_the_recipe_says(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(monkeypatch, Cluster(num_workers=2, wait_s=100))
    world.starts()
    world.watch.take({"kind": "failed", "cause": "host 10.0.0.2 was lost", "preempted": False})
    world.room = 1
    world.after(6)
    world.after(90)
    assert world.watch.fatal is None
    world.after(11)
    assert world.watch.fatal is not None
    assert world.watch.fatal["message"] == "2 workers are needed, for 101 s there was room for 1"
    assert world.watch.overdue()


def test_a_spare_host_in_time_is_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(monkeypatch, Cluster(num_workers=2, wait_s=100))
    world.starts()
    world.watch.take({"kind": "failed", "cause": "host 10.0.0.2 was lost", "preempted": False})
    world.room = 1
    world.after(90)
    world.room = 2
    world.after(20)
    world.after(200)
    assert world.watch.fatal is None


def test_workers_that_do_not_start_though_there_is_room_are_spoken_of_and_given_up(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    world = World(monkeypatch, Cluster(num_workers=2, stall_timeout_s=300))
    world.starts()
    world.watch.take({"kind": "failed", "cause": "worker on 10.0.0.2 died", "preempted": False})
    world.free = 1
    world.after(50)
    assert world.said[-1] == "worker on 10.0.0.2 died"
    world.after(20)
    world.after(20)
    assert world.said[-1] == "no worker for 70 s: 1 of 2 places are held by nobody"
    world.after(200)
    assert world.watch.fatal is None
    world.after(20)
    assert world.watch.fatal is not None and world.watch.fatal["message"] == "no worker has started for 310 s"
    assert world.watch.overdue()


def test_a_worker_out_of_memory_ends_the_others_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(monkeypatch, Cluster(num_workers=2))
    world.starts()
    world.watch.take({"kind": "fatal", "reason": "memory", "message": "out of memory on b, rank 1", "hint": "less"})
    assert world.watch.overdue() and world.said == ["first step after 0 s"]


def test_a_short_time_for_steps_is_not_one_for_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(monkeypatch, Cluster(num_workers=2, wait_s=1, stall_timeout_s=1))
    for _ in range(4):
        world.after(60)
    assert world.watch.fatal is None


def test_a_run_leaves_a_host_that_is_to_be_taken_away(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(monkeypatch, Cluster(num_workers=2))
    world.starts()
    world.draining = {"c"}
    world.after(6)
    assert world.leaves == []
    world.draining = {"b", "c"}
    world.after(6)
    world.after(6)
    assert world.leaves == [True]
    assert world.said[-1].startswith("10.0.0.2 is to be taken away")
    world.watch.take({"kind": "done", "result": {"grows": False, "stopped": True}})
    assert world.watch.goes_on
    world.watch.begin()
    assert world.leaves == [True, False] and world.watch.waits
    world.watch.take({"kind": "done", "result": {"grows": False, "stopped": True}})
    assert not world.watch.goes_on


@pytest.mark.parametrize(("limit", "told"), [(-1, False), (1, True)])
def test_leavings_are_counted_against_the_recipes_limit(
    monkeypatch: pytest.MonkeyPatch, limit: int, told: bool
) -> None:
    world = World(monkeypatch, Cluster(num_workers=2, max_preemptions=limit))
    for time in (1, 2):
        world.starts()
        world.draining = {"b"}
        world.after(6)
        world.after(6)
        world.watch.take({"kind": "done", "result": {"grows": False, "stopped": True}})
        assert (world.watch.fatal is not None) == (told and time == 2)
        world.watch.begin()
        world.draining = set()
    if world.watch.fatal:
        assert world.watch.fatal["message"].startswith("hosts were taken away 2 times, cluster.max_preemptions is 1")


def test_restarts_are_counted_over_all_that_ray_is_asked_for() -> None:
    assert [left(3, met) for met in (0, 2, 3, 5)] == [3, 1, 0, 0]
    assert left(-1, 5) == -1


def test_failures_and_preemptions_are_counted_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(monkeypatch, Cluster(num_workers=2))
    for preempted in (False, True, False):
        world.starts()
        world.watch.take({"kind": "failed", "cause": "a worker died", "preempted": preempted})
    assert (world.watch.failures, world.watch.preemptions) == (2, 1)
