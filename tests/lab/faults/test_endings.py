"""How a run ends when it is told to, and when its storage fails: a checkpoint, the right status, nothing left behind."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from distmed.checkpoint.folder import is_complete, verify
from tests.lab.faults.test_workers import FEW, finish
from tests.lab.figures import full
from tests.lab.hosts import Lab, run, wait_until
from tests.lab.memory import orphans, shared_memory
from tests.lab.ray_nodes import RayCluster
from tests.lab.runs import ENDLESS, LabRun, start


def ended_well(stopped: LabRun) -> None:
    """Status 130, the last step in a checkpoint, the lock given back."""
    status, output = stopped.end()
    assert status == 130, output
    assert "with a checkpoint saved" in output
    assert stopped.checkpoints[-1].startswith(f"step-{max(stopped.losses):08d}-")
    assert verify(stopped.path / "checkpoints" / stopped.checkpoints[-1]) is None
    assert not (stopped.path / "lock.json").exists()


def test_ctrl_c_at_a_desk_saves_and_leaves_nothing(lab: Lab, tmp_path: Path) -> None:
    """To the whole group of processes, as a terminal sends it; after a worker was killed, which leaves what it had open."""
    desk, before = lab[3], shared_memory()
    stopped = start(tmp_path, desk, None, "desk", *FEW, ENDLESS)
    stopped.wait_for_step(4)
    victim = next(pid for pid, command in desk.commands().items() if "RayTrainWorker" in command)
    os.kill(victim, signal.SIGKILL)
    wait_until("a second attempt", 600, lambda: stopped.attempts == 1)
    os.killpg(stopped.process.pid, signal.SIGINT)
    ended_well(stopped)
    wait_until("an empty desk", 30, lambda: not desk.commands())
    wait_until("empty shared memory", 10, lambda: not orphans(shared_memory() - before))


@pytest.mark.parametrize("number", [signal.SIGTERM, pytest.param(signal.SIGUSR1, marks=full)])
def test_a_signal_on_a_cluster_saves_and_leaves_nothing(
    lab: Lab, cluster: RayCluster, tmp_path: Path, number: signal.Signals
) -> None:
    stopped = start(tmp_path, lab[0], cluster, "stopped", *FEW, ENDLESS)
    stopped.wait_for_step(4)
    stopped.process.send_signal(number)
    ended_well(stopped)


@full
def test_a_disk_that_fills_up_leaves_older_checkpoints_whole(
    lab: Lab, cluster: RayCluster, straight: dict[int, float], small_disk: Path, tmp_path: Path
) -> None:
    where = on(small_disk)
    full_disk = start(tmp_path, lab[0], cluster, "full", *FEW, ENDLESS, *where)
    full_disk.wait_for_step(7)
    filler = small_disk / "filler"
    with filler.open("wb") as file, pytest.raises(OSError):
        while True:
            file.write(b"x" * 2**20)
            file.flush()
    status, output = full_disk.end()
    filler.unlink()
    assert status == 2, output
    assert "no space left for the checkpoint" in output and str(small_disk) in output
    goes_on(lab, cluster, full_disk, small_disk / "full", straight, *where)


@full
def test_a_storage_that_becomes_read_only_leaves_older_checkpoints_whole(
    lab: Lab, cluster: RayCluster, straight: dict[int, float], small_disk: Path, tmp_path: Path
) -> None:
    where = on(small_disk)
    locked = start(tmp_path, lab[0], cluster, "locked", *FEW, ENDLESS, *where)
    locked.wait_for_step(7)
    # Refused as long as a file is being written.
    wait_until(
        "the remount", 60, lambda: not run("mount", "-o", "remount,ro", small_disk, check=False).returncode, 0.01
    )
    try:
        status, output = locked.end()
    finally:
        run("mount", "-o", "remount,rw", small_disk)
    assert status == 2, output
    assert "Read-only file system" in output
    goes_on(lab, cluster, locked, small_disk / "locked", straight, *where)


def on(disk: Path) -> list[str]:
    """As many checkpoints as the small disk holds."""
    return [f"checkpoint.storage_path={disk}", "checkpoint.keep=2"]


def goes_on(
    lab: Lab, cluster: RayCluster, failed: LabRun, checkpoints: Path, straight: dict[int, float], *words: str
) -> None:
    """What was saved is whole, and the run goes on from it as if nothing had been."""
    whole = [folder for folder in checkpoints.glob("step-*") if is_complete(folder)]
    assert whole and all(verify(folder) is None for folder in whole)
    last = max(int(folder.name.split("-")[1]) for folder in whole)
    folder = failed.path.parents[1]
    steps = last + 4
    again = start(folder, lab[0], cluster, failed.path.name, *FEW, *words, f"train.max_steps={steps}", "--resume")
    assert f"resumed after step {last}" in finish(again)
    kept = {step: straight[step] for step in range(1, min(steps, len(straight)) + 1)}
    assert {step: loss for step, loss in again.losses.items() if step in kept} == kept
