"""What goes wrong while workers train ends the run once, says why, and keeps the checkpoints there are."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from distmed import shipped
from distmed.checkpoint.folder import verify
from distmed.recipe_file import load_recipe
from distmed.train.engine import StepResult
from distmed.train.logbook import Logbook
from distmed.train.worker import not_finite
from tests.train.conftest import Run
from tests.train.door import SMALL, Door, Refusal, refusal_in

pytestmark = pytest.mark.slow

Ended = tuple[Run, int, str]


@pytest.fixture
def ended(start: Callable[..., Any]) -> Callable[..., Ended]:
    """A run to its end: its folder, the exit status and what was said."""

    def run_to_end(name: str, *arguments: str) -> Ended:
        process = start(*SMALL, *arguments, "--name", name, env={"WANDB_MODE": "disabled"})
        output, _ = process.communicate(timeout=400)
        return Run(start.folder / "runs" / name), process.returncode, output  # type: ignore[attr-defined]

    return run_to_end


@pytest.fixture
def tiny_disk(tmp_path: Path) -> Iterator[Callable[[str], Path]]:
    """Make a disk of some size, such as 30m."""
    mounted: list[Path] = []

    def mount(size: str) -> Path:
        folder = tmp_path / "disk"
        folder.mkdir()
        made = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", f"size={size}", "none", str(folder)], capture_output=True, text=True
        )
        if made.returncode:
            pytest.skip(f"a small disk cannot be mounted here: {made.stderr.strip()}")
        mounted.append(folder)
        return folder

    yield mount
    for folder in mounted:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def user_error(run: Run, status: int, output: str) -> Refusal:
    """A mistake of the user, met by a worker: told as one, without a restart, and the run's folder stays."""
    assert status == 2, output
    assert "restart" not in output
    assert (run.path / "recipe.yaml").is_file() and (run.path / "log.txt").is_file()
    return refusal_in("", output)


def test_a_disk_that_fills_up(ended: Callable[..., Ended], tiny_disk: Callable[[str], Path]) -> None:
    disk = tiny_disk("40m")  # a checkpoint has 24 MB
    run, status, output = ended("disk", f"checkpoint.storage_path={disk}", "checkpoint.keep=2")
    refusal = user_error(run, status, output)
    assert "no space left for the checkpoint" in refusal.message and str(disk) in refusal.message
    assert "--resume" in refusal.hint
    kept = [path for path in (disk / "disk").glob("step-*") if any(path.iterdir())]
    assert [path.name for path in kept] == ["step-00000004-world-1-attempt-0"]
    assert verify(kept[0]) is None


@pytest.mark.usefixtures("ray_address")
@pytest.mark.parametrize(
    ("size", "message"),
    [
        ("64k", "cannot write shards into "),
        ("256k", "no space left on the disk of "),
        ("700k", "the token ids need about "),
    ],
)
def test_a_disk_too_small_to_begin(
    door: Door, tiny_disk: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch, size: str, message: str
) -> None:
    door.folder = tiny_disk(size)
    monkeypatch.chdir(door.folder)
    refusal = door.refuse("data.train.0.limit=3000", "data.token_cache=ids")
    assert message in refusal.message
    assert "free some" in refusal.hint or "make room" in refusal.hint


def test_the_loss_is_named_where_it_is_what_is_not_finite() -> None:
    result = StepResult(loss=float("nan"), lr=1.0, grad_norm=1.0, stop=False, finite=False, bad_case_ids=["a", "b"])
    assert not_finite(7, result)[0] == "the loss of step 7 is not finite; cases in it: a, b"


def test_a_step_that_is_not_finite(ended: Callable[..., Ended]) -> None:
    run, status, output = ended("infinite", "optimizer.lr=1e30", "optimizer.warmup=0", "checkpoint.every=1")
    assert status == 1, output
    assert "the gradients of step 2 are not finite; cases in it: train-" in output
    assert "the last good checkpoint is kept" in output
    assert "restart" not in output
    assert run.checkpoints == ["step-00000001-world-1-attempt-0"]
    assert verify(run.path / "checkpoints" / run.checkpoints[0]) is None


def test_weights_that_do_not_fit_their_config(small: Run, ended: Callable[..., Ended], tmp_path: Path) -> None:
    model = Path(shutil.copytree(small.path / "model", tmp_path / "model"))
    config = json.loads((model / "config.json").read_text())
    (model / "config.json").write_text(json.dumps({**config, "num_hidden_layers": 5}))
    refusal = user_error(*ended("unfit", f"model.path={model}", "model.init=pretrained"))
    assert "its weights lack" in refusal.message
    assert "model.init=random" in refusal.hint


def training(above: psutil.Process) -> list[psutil.Process]:
    """Processes of workers below `above`."""
    found = []
    for child in above.children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess):
            if "RayTrainWorker" in " ".join(child.cmdline()):
                found.append(child)
    return found


LONELY = """
import sys, time, ray
from distmed.cli import main
from distmed.train import worker

def run_worker(config):
    if ray.train.get_context().get_world_rank() == 0:
        ray.get(config["logbook"].fatal.remote("user", "one worker met it", "mend it"))
    else:
        time.sleep(3600)

worker.run_worker = run_worker
main(["train", *sys.argv[1:]])
"""


def refused(start: Any, ray_address: str, script: str, name: str, *arguments: str) -> Refusal:
    """What a run on two workers, which `script` has changed, ends with; no worker is left."""
    done = subprocess.run(
        [sys.executable, "-c", script, *SMALL, "--name", name, "--num-workers", "2", *arguments],
        cwd=start.folder,
        env={**os.environ, "RAY_ADDRESS": ray_address, "WANDB_MODE": "disabled"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    refusal = user_error(Run(start.folder / "runs" / name), done.returncode, done.stdout + done.stderr)
    _, alive = psutil.wait_procs(training(psutil.Process()), timeout=120)
    assert alive == []
    return refusal


def test_a_mistake_that_one_worker_meets_ends_the_others(start: Callable[..., Any], ray_address: str) -> None:
    refusal = refused(start, ray_address, LONELY, "lonely", "cluster.stall_timeout_s=1")
    assert (refusal.message, refusal.hint) == ("one worker met it", "mend it")


OUT_OF_MEMORY = """
import sys, time, ray, torch
from distmed.cli import main
from distmed.train import worker

def run_worker(config):
    from distmed.train import worker

    def train(job, logbook):
        if ray.train.get_context().get_world_rank() == 1:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
        time.sleep(3600)

    worker.train = train
    worker.run_worker(config)

worker.run_worker = run_worker
main(["train", *sys.argv[1:]])
"""


def test_a_worker_out_of_memory_is_told_what_helps_and_not_started_again(
    start: Callable[..., Any], ray_address: str
) -> None:
    refusal = refused(start, ray_address, OUT_OF_MEMORY, "large")
    assert refusal.message.startswith("out of memory on ") and "rank 1: CUDA out of memory." in refusal.message
    assert "train.micro_batch" in refusal.hint and "distmed plan" in refusal.hint


def test_tracking_heeds_the_drivers_environment_in_a_cluster_that_has_another(small: Run) -> None:
    if os.environ["WANDB_MODE"] == "disabled":
        pytest.skip("the cluster has the run's own WANDB_MODE")
    assert not (small.path / "wandb").exists()


def test_metrics_that_cannot_be_written_end_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setenv("WANDB_MODE", "disabled")
    logbook = Logbook(load_recipe(shipped.folder("recipes") / "smoke.yaml"), tmp_path, 0, {})
    monkeypatch.setattr(logbook.tracker, "log", full)
    logbook.log(1, {"train/loss": 1.0}, {}, True)
    (fatal,) = [event for event in logbook.news() if event["kind"] == "fatal"]
    assert fatal["reason"] == "user" and "metrics.jsonl: No space left on device" in fatal["message"]
    assert logbook.stop_asked()


def test_a_signal_to_a_whole_process_group_ends_with_a_checkpoint(start: Callable[..., Any]) -> None:
    """As of `timeout 8h distmed train …`, with a Ray of its own."""
    leader = subprocess.Popen(["sleep", "600"], process_group=0)
    arguments = [*SMALL, "train.max_steps=1000", "train.eval_every=1000"]
    environment = {"WANDB_MODE": "disabled", "RAY_ADDRESS": ""}
    process = start(*arguments, "--name", "group", env=environment, process_group=leader.pid)
    run = Run(start.folder / "runs" / "group")  # type: ignore[attr-defined]
    run.wait_for_step(2, process)
    os.killpg(leader.pid, signal.SIGTERM)
    output, _ = process.communicate(timeout=120)
    leader.wait()
    assert process.returncode == 130, output
    assert run.checkpoints[-1].startswith(f"step-{max(run.losses):08d}-")


def test_a_second_interrupt_ends_everything_at_once(start: Callable[..., Any]) -> None:
    arguments = [*SMALL, "train.max_steps=1000", "train.eval_every=1000"]
    process = start(*arguments, "--name", "twice", env={"WANDB_MODE": "disabled", "RAY_ADDRESS": ""})
    run = Run(start.folder / "runs" / "twice")  # type: ignore[attr-defined]
    run.wait_for_step(2, process)
    children = psutil.Process(process.pid).children(recursive=True)
    (worker,) = training(psutil.Process(process.pid))
    worker.suspend()  # it hangs, so that the first interrupt alone would wait for it
    process.send_signal(signal.SIGINT)
    time.sleep(2)
    process.send_signal(signal.SIGINT)
    output, _ = process.communicate(timeout=120)
    assert process.returncode == 130, output
    assert "Traceback" not in output
    _, alive = psutil.wait_procs(children, timeout=120)
    assert alive == []
