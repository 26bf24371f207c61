"""Hosts that are lost and networks that are cut: the run goes on with what is left, or waits for a spare, by the recipe."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from tests.lab.faults.test_workers import FEW, finish, same
from tests.lab.figures import full, measured
from tests.lab.hosts import Lab
from tests.lab.ray_nodes import RayCluster
from tests.lab.runs import ENDLESS, LabRun, start

ELASTIC = ["train.max_steps=40", "checkpoint.every=3", "checkpoint.keep=20", "cluster.num_workers=[1,2]"]


def close(run: LabRun, straight: dict[int, float]) -> None:
    """Each step once, and each loss within 1e-3 of the straight run's."""
    assert list(run.losses) == list(range(1, 41))
    for step, loss in run.losses.items():
        assert loss == pytest.approx(straight[step], rel=1e-3), step


def stop(run: LabRun) -> str:
    """Ended by a signal, each step once; what it said."""
    run.process.terminate()
    status, output = run.end()
    assert status == 130, output
    steps = list(run.losses)
    assert steps == list(range(1, len(steps) + 1))
    return output


def test_an_elastic_run_shrinks_when_a_host_is_lost_and_grows_when_one_comes(
    lab: Lab, cluster: RayCluster, straight: dict[int, float], tmp_path: Path
) -> None:
    run = start(tmp_path, lab[0], cluster, "elastic", *ELASTIC, ENDLESS)
    run.wait_for_step(5)
    with measured("kill -9 a raylet, no spare (elastic)", run):
        cluster.lose(lab[2])
    cluster.join(lab[2], 1)
    run.wait_to_say("on 2 workers instead of 1; no step repeated")
    run.wait_for_step(max(run.losses) + 3)
    output = stop(run)
    assert "host 10.77.0.13 was lost" in output
    assert "on 1 workers instead of 2" in output
    assert "startup timed out" not in (run.path / "log.txt").read_text(), "waited for the lost host's workers"
    for step in list(run.losses)[: len(straight)]:
        assert run.losses[step] == pytest.approx(straight[step], rel=1e-3), step


@full
def test_a_run_of_fixed_size_waits_for_a_spare(
    lab: Lab, cluster: RayCluster, straight: dict[int, float], tmp_path: Path
) -> None:
    run = start(tmp_path, lab[0], cluster, "waits", *FEW, "cluster.wait_s=400")
    run.wait_for_step(5)
    with measured("kill -9 a raylet, a spare comes when it is missed", run):
        cluster.lose(lab[2])
        run.wait_to_say("room for 1 workers, 2 are needed: waits 400 s")
        cluster.join(lab[3], 1)
    output = finish(run)
    assert "host 10.77.0.13 was lost" in output
    same(run, straight)


@full
def test_a_spare_that_is_there_takes_the_place_of_a_lost_host(
    lab: Lab, cluster: RayCluster, straight: dict[int, float], tmp_path: Path
) -> None:
    cluster.become(lab.hosts[1:4])
    run = start(tmp_path, lab[0], cluster, "spare", *FEW)
    run.wait_for_step(5)
    host = next(host for host in lab.hosts[1:4] if any("RayTrainWorker" in c for c in host.commands().values()))
    with measured("kill -9 a raylet, a spare is there", run):
        cluster.lose(host)
    assert "restart 1: " in finish(run)
    same(run, straight)


@full
def test_a_host_that_is_taken_away_with_notice_costs_no_step(
    lab: Lab, cluster: RayCluster, straight: dict[int, float], tmp_path: Path
) -> None:
    """Nor a restart: the run saves and goes on elsewhere before the host is gone."""
    cluster.become(lab.hosts[1:4])
    run = start(tmp_path, lab[0], cluster, "noticed", ENDLESS, "checkpoint.every=50", "--num-workers", "2")
    run.wait_for_step(5)
    host = next(host for host in lab.hosts[1:4] if any("RayTrainWorker" in c for c in host.commands().values()))
    with measured("a host is taken away with notice, a spare is there", run):
        cluster.drain(host, 120)
        run.wait_to_say(f"{host.address} is to be taken away")
        run.wait_to_say("no step repeated")
        cluster.lose(host)
    assert "restart" not in stop(run)
    for step in list(run.losses)[: len(straight)]:
        assert run.losses[step] == straight[step], step


@full
def test_the_network_is_cut_for_ten_seconds(
    lab: Lab, cluster: RayCluster, straight: dict[int, float], tmp_path: Path
) -> None:
    run = start(tmp_path, lab[0], cluster, "cut", *FEW)
    run.wait_for_step(5)
    lab[2].cut()
    try:
        time.sleep(10)
    finally:
        lab[2].mend()
    finish(run)
    same(run, straight)


@full
def test_the_network_is_cut_for_good(lab: Lab, cluster: RayCluster, straight: dict[int, float], tmp_path: Path) -> None:
    run = start(tmp_path, lab[0], cluster, "gone", *ELASTIC)
    run.wait_for_step(5)
    try:
        with measured("the network of a host is cut for good (elastic)", run):
            lab[2].cut()
        assert "on 1 workers instead of 2" in finish(run)
    finally:
        cluster.lose(lab[2])
        lab[2].mend()
    close(run, straight)
