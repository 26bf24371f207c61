"""Workers that die, hang or pause: each row of the table of faults in docs/clusters.md."""

from __future__ import annotations

import os
import random
import signal
import time
from pathlib import Path

from tests.lab.faults.conftest import STEPS
from tests.lab.figures import SHORT, full, measured
from tests.lab.hosts import Lab, wait_until
from tests.lab.ray_nodes import RayCluster
from tests.lab.runs import ENDLESS, PATIENCE_S, LabRun, start

# All checkpoints stay: what a restart went on from can be looked into where its losses are not the straight run's.
FEW = ["train.max_steps=16", "checkpoint.every=3", "checkpoint.keep=20", "--num-workers", "2"]
RANDOM, UPLOAD, EVALUATION = "at a random moment", "in an upload", "in an evaluation"
EVERY = 5
MOMENTS = [RANDOM] * 3 if SHORT else [UPLOAD, EVALUATION, UPLOAD, EVALUATION, *[RANDOM] * 6]


def worker_on(lab: Lab, host: int) -> int:
    (pid,) = [pid for pid, command in lab[host].commands().items() if "RayTrainWorker" in command]
    return pid


def finish(run: LabRun, seconds: float = PATIENCE_S) -> str:
    """To its end; what it said is shown where the test fails later."""
    status, output = run.end(seconds)
    assert status == 0, output
    print(output)
    return output


def same(run: LabRun, straight: dict[int, float], steps: int = 16) -> None:
    """To the last digit."""
    assert run.losses == {step: straight[step] for step in range(1, steps + 1)}


def wait_for(moment: str, run: LabRun, chance: random.Random) -> None:
    """Until it is time to kill a worker."""
    if moment == UPLOAD:
        checkpoints = run.path / "checkpoints"
        wait_until("an upload", 600, lambda: next(checkpoints.glob("step-*/*.partial"), None), every=0.002)
    elif moment == EVALUATION:
        # A step is logged after its evaluation, which takes longer than this.
        wait_until("the step before an evaluation", 600, lambda: max(run.losses) % EVERY == EVERY - 1, every=0.02)
        time.sleep(0.7)
    else:
        run.wait_for_step(max(run.losses) + chance.randint(0, 2))
        time.sleep(chance.uniform(0, 0.5))


def test_workers_killed_at_random_moments_change_no_digit(
    lab: Lab, cluster: RayCluster, straight: dict[int, float], tmp_path: Path
) -> None:
    """Among the moments of the full lab: while a checkpoint is uploaded, and while an evaluation runs."""
    chance = random.Random()
    evaluation = [f"train.eval_every={EVERY}", "data.eval.0.limit=400", "data.unknown_labels=count"]
    more = [f"train.max_steps={STEPS}", *evaluation, "cluster.max_failures=-1"]
    run = start(tmp_path, lab[0], cluster, "killed", *FEW, *more)
    run.wait_for_step(4)
    for moment in MOMENTS:
        victim = worker_on(lab, chance.choice([1, 2]))
        wait_for(moment, run, chance)
        with measured(f"kill -9 a worker {moment}", run):
            os.kill(victim, signal.SIGKILL)
    output = finish(run)
    assert f"restart {len(MOMENTS)}: worker on 10.77.0.1" in output
    assert " died; " in output and " repeated; goes on after step " in output
    same(run, straight, STEPS)
    assert run.summary["restarts"] == len(MOMENTS)


def test_the_worker_that_died_is_named(
    lab: Lab, cluster: RayCluster, straight: dict[int, float], tmp_path: Path
) -> None:
    run = start(tmp_path, lab[0], cluster, "named", *FEW)
    run.wait_for_step(random.randint(4, 9))
    os.kill(worker_on(lab, 2), signal.SIGKILL)
    assert "restart 1: worker on 10.77.0.13 died; " in finish(run)
    same(run, straight)


def test_the_same_run_started_twice_is_refused_while_the_first_lives(
    lab: Lab, cluster: RayCluster, tmp_path: Path
) -> None:
    first = start(tmp_path, lab[0], cluster, "twice", *FEW, ENDLESS)
    wait_until("the lock", 300, lambda: (first.path / "lock.json").exists())
    second = start(tmp_path, lab[1], cluster, "twice", *FEW)
    status, output = second.end()
    assert status == 2
    assert "run twice is being trained by process" in output and "on n1" in output
    first.process.kill()
    first.process.wait()
    # Its host knows that the owner is dead; another would wait until the lock is old.
    resume = ["--resume"] if (first.path / "recipe.yaml").exists() else []
    third = start(tmp_path, lab[0], cluster, "twice", *FEW, *resume)
    assert "its lock is taken over" in finish(third)


def test_a_worker_that_hangs_is_shown_and_replaced(
    lab: Lab, cluster: RayCluster, straight: dict[int, float], tmp_path: Path
) -> None:
    run = start(tmp_path, lab[0], cluster, "stalled", *FEW, "cluster.stall_timeout_s=25")
    run.wait_for_step(5)
    stuck = worker_on(lab, 1)
    with measured("a worker hangs (stall_timeout_s=25)", run):
        os.kill(stuck, signal.SIGSTOP)
    output = finish(run)
    assert "no step for 25 s: the stacks of all workers go to the log" in output
    assert "restart 1: " in output
    log = (run.path / "log.txt").read_text()
    assert "stacks of rank" in log and "run_worker" in log
    same(run, straight)


@full
def test_a_short_pause_is_no_stall(lab: Lab, cluster: RayCluster, straight: dict[int, float], tmp_path: Path) -> None:
    run = start(tmp_path, lab[0], cluster, "paused", *FEW)
    run.wait_for_step(5)
    slow = worker_on(lab, 1)
    os.kill(slow, signal.SIGSTOP)
    time.sleep(20)
    os.kill(slow, signal.SIGCONT)
    assert "restart" not in finish(run)
    same(run, straight)
