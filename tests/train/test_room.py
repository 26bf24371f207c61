"""Whether the cluster has room for a run: how long it is waited for, what others hold, hosts that come and go."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from typing import Any

import pytest

from distmed import session
from distmed.errors import UserError
from distmed.recipe import Cluster
from distmed.train import preparation
from tests.train.door import Door


@pytest.mark.usefixtures("ray_address")
def test_more_workers_than_the_cluster_has(door: Door, monkeypatch: pytest.MonkeyPatch) -> None:
    def make_job(*_: Any, **__: Any) -> None:
        raise AssertionError("the data was read before the cluster was found too small")

    monkeypatch.setattr(preparation, "make_job", make_job)
    refusal = door.refuse("--num-workers", "7")
    assert "7 workers want a CPU each, the cluster has 4 (waited 0 s)" in refusal.message
    assert "--num-workers to 4" in refusal.hint


@pytest.mark.usefixtures("ray_address")
def test_the_wait_for_workers_is_as_long_as_asked() -> None:
    started = time.monotonic()
    with pytest.raises(UserError, match=r"waited 1 s"):
        session.wait_for_room(Cluster(num_workers=7, wait_s=1))
    assert time.monotonic() - started >= 1


def test_gpus_without_cpus_beside_them_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """`--gpus-per-node=8` alone may come with a single CPU."""
    there = {"GPU": 8.0, "CPU": 1.0}
    monkeypatch.setattr("ray.cluster_resources", lambda: there)
    monkeypatch.setattr("ray.nodes", lambda: [{"Alive": True, "NodeID": "a", "Resources": there}])
    monkeypatch.setattr("ray._private.state.available_resources_per_node", lambda: {"a": there})
    monkeypatch.setattr(session, "draining", set)
    with pytest.raises(UserError, match=r"8 workers want a GPU and a CPU each, the cluster has 1") as refused:
        session.wait_for_room(Cluster(num_workers=8))
    assert "give Ray more CPUs (it has 1 for 8 GPUs)" in refused.value.hint


@pytest.mark.usefixtures("ray_address")
def test_a_host_that_comes_while_waited_for_is_asked_for_and_used(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []
    sizes: Iterator[int] = iter([1, 1, 7])
    monkeypatch.setattr("ray.autoscaler.sdk.request_resources", lambda bundles: asked.append(bundles))
    monkeypatch.setattr(session, "places", lambda: [next(sizes)])
    monkeypatch.setattr(session, "free_places", lambda: 7)
    session.wait_for_room(Cluster(num_workers=7, wait_s=60))
    assert next(sizes, None) is None, "it was looked until the host had come"
    assert asked == [[{"CPU": 1}] * 7, []], "a cluster that grows by itself hears of it, and that it is over"


class Other:
    """What somebody else runs on the cluster."""

    def lives(self) -> bool:
        return True


@pytest.mark.usefixtures("ray_address")
def test_workers_whose_room_others_hold(monkeypatch: pytest.MonkeyPatch) -> None:
    import ray

    monkeypatch.setattr(session, "HANDED_BACK_S", 0.2)
    other: Any = ray.remote(Other)
    held = other.options(num_cpus=3).remote()
    ray.get(held.lives.remote())
    try:
        with pytest.raises(UserError, match=r"2 workers want a CPU each, the cluster has 4, 3 of them held by others"):
            session.wait_for_room(Cluster(num_workers=2))
    finally:
        ray.kill(held)
    monkeypatch.setattr(session, "HANDED_BACK_S", 30)
    session.wait_for_room(Cluster(num_workers=4))


@pytest.mark.usefixtures("ray_address")
def test_a_host_that_goes_away_while_it_is_asked_is_no_part_of_the_cluster(monkeypatch: pytest.MonkeyPatch) -> None:
    import ray

    from distmed.train.fit import on_every_host

    here = ray.nodes()
    gone = {"NodeID": "ab" * 28, "Alive": True, "NodeManagerAddress": "10.0.0.9"}
    monkeypatch.setattr(ray, "nodes", lambda: [*here, gone])
    assert on_every_host(lambda: "well") == {here[0]["NodeManagerAddress"]: "well"}


def test_a_cluster_that_refuses(monkeypatch: pytest.MonkeyPatch) -> None:
    import ray

    def refuse(**_: Any) -> None:
        raise RuntimeError("Version mismatch: The cluster was started with:\n    Ray: 2.9.0")

    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setattr(ray, "init", refuse)
    with socket.create_server(("127.0.0.1", 0)) as head:
        monkeypatch.setenv("RAY_ADDRESS", f"127.0.0.1:{head.getsockname()[1]}")
        with pytest.raises(UserError, match=r"refuses: Version mismatch") as told, session.connected():
            pass
    assert "cluster's versions" in told.value.hint
