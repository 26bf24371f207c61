"""What a run outlives on two and three hosts, with real processes: each row of the table of faults in docs/clusters.md."""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.lab.faults import measured
from tests.lab.hosts import Lab, wait_until
from tests.lab.ray_nodes import RayCluster, ray_on
from tests.lab.runs import LabRun, start

STEPS = 16
SHORT = [f"train.max_steps={STEPS}", "checkpoint.every=3"]


@pytest.fixture(scope="module")
def cluster(lab: Lab) -> Iterator[RayCluster]:
    """A head that runs no worker, as a cluster should have it, and two hosts of one worker each."""
    with ray_on(lab.folder, lab.hosts, cpus=[0, 1, 1]) as started:
        yield started


@pytest.fixture(scope="module")
def straight(lab: Lab, cluster: RayCluster, tmp_path_factory: pytest.TempPathFactory) -> dict[int, float]:
    """The losses of a run that met no fault."""
    run = start(tmp_path_factory.mktemp("straight"), lab[0], cluster, "straight", *SHORT, "--num-workers", "2")
    status, output = run.end(400)
    assert status == 0, output
    assert list(run.losses) == list(range(1, STEPS + 1))
    return run.losses


def worker_on(lab: Lab, host: int) -> int:
    (pid,) = [pid for pid, command in lab[host].commands().items() if "RayTrainWorker" in command]
    return pid


def finish(run: LabRun) -> str:
    status, output = run.end(400)
    assert status == 0, output
    return output


def test_a_killed_worker_is_named_and_changes_no_digit(
    lab: Lab, cluster: RayCluster, straight: dict[int, float], tmp_path: Path
) -> None:
    run = start(tmp_path, lab[0], cluster, "killed", *SHORT, "--num-workers", "2")
    run.wait_for_step(random.randint(4, 9), 300)
    with measured("kill -9 a worker", run):
        os.kill(worker_on(lab, 2), signal.SIGKILL)
    output = finish(run)
    assert "restart 1: worker on 10.77.0.13 died; " in output
    assert " repeated; goes on after step " in output
    assert run.losses == straight
    assert run.summary["restarts"] == 1


def test_the_same_run_started_twice_is_refused_while_the_first_lives(
    lab: Lab, cluster: RayCluster, tmp_path: Path
) -> None:
    first = start(tmp_path, lab[0], cluster, "twice", *SHORT, "--num-workers", "2")
    wait_until("the lock", 120, lambda: (first.path / "lock.json").exists())
    second = start(tmp_path, lab[1], cluster, "twice", *SHORT, "--num-workers", "2")
    status, output = second.end(120)
    assert status == 2
    assert "run twice is being trained by process" in output and "on n1" in output
    first.process.kill()
    first.process.wait()
    # Its host knows that the owner is dead; another would wait until the lock is old.
    third = start(tmp_path, lab[0], cluster, "twice", *SHORT, "train.max_steps=2", "--num-workers", "2")
    assert "its lock is taken over" in finish(third)


def test_a_worker_that_hangs_is_shown_and_replaced(
    lab: Lab, cluster: RayCluster, straight: dict[int, float], tmp_path: Path
) -> None:
    run = start(tmp_path, lab[0], cluster, "stalled", *SHORT, "--num-workers", "2", "cluster.stall_timeout_s=25")
    run.wait_for_step(5, 300)
    stuck = worker_on(lab, 1)
    with measured("a worker hangs (stall_timeout_s=25)", run):
        os.kill(stuck, signal.SIGSTOP)
    output = finish(run)
    assert "no step for 25 s: the stacks of all workers go to the log" in output
    assert "restart 1: " in output
    log = (run.path / "log.txt").read_text()
    assert "stacks of rank" in log and "train_step" in log
    assert run.losses == straight


def test_a_short_pause_is_no_stall(lab: Lab, cluster: RayCluster, straight: dict[int, float], tmp_path: Path) -> None:
    run = start(tmp_path, lab[0], cluster, "paused", *SHORT, "--num-workers", "2")
    run.wait_for_step(5, 300)
    slow = worker_on(lab, 1)
    os.kill(slow, signal.SIGSTOP)
    time.sleep(20)
    os.kill(slow, signal.SIGCONT)
    assert "restart" not in finish(run)
    assert run.losses == straight


def test_the_network_is_cut_for_ten_seconds(
    lab: Lab, cluster: RayCluster, straight: dict[int, float], tmp_path: Path
) -> None:
    run = start(tmp_path, lab[0], cluster, "cut", *SHORT, "--num-workers", "2")
    run.wait_for_step(5, 300)
    lab[2].cut()
    try:
        time.sleep(10)
    finally:
        lab[2].mend()
    finish(run)
    assert run.losses == straight


def test_an_elastic_run_shrinks_when_a_host_is_lost_and_grows_when_one_comes(
    lab: Lab, cluster: RayCluster, straight: dict[int, float], tmp_path: Path
) -> None:
    """Last of this file: it leaves the cluster with its third host started anew."""
    longer = [*SHORT, "train.max_steps=40", "cluster.num_workers=[1,2]"]
    run = start(tmp_path, lab[0], cluster, "elastic", *longer)
    run.wait_for_step(5, 300)
    with measured("kill -9 a raylet, no spare (elastic)", run):
        cluster.lose(lab[2])
    lost_at = max(run.losses)
    run.wait_for_step(lost_at + 2, 300)
    cluster.join(lab[2], 1)
    output = finish(run)
    assert "host 10.77.0.13 was lost" in output or "worker on 10.77.0.13 died" in output
    assert "on 1 workers instead of 2" in output
    assert "on 2 workers instead of 1; no step repeated" in output
    assert list(run.losses) == list(range(1, 41))
    for step, loss in straight.items():
        assert run.losses[step] == pytest.approx(loss, rel=1e-3), step
