"""A run at a desk whose terminal is closed: what was trained is saved, and nothing is left running."""

from __future__ import annotations

import fcntl
import json
import os
import shlex
import subprocess
import sys
import termios
from pathlib import Path

import psutil
import pytest

from distmed.checkpoint.folder import verify
from tests.train.conftest import Run
from tests.train.door import SMALL

pytestmark = pytest.mark.slow


def test_a_run_whose_terminal_is_closed_saves_and_ends(tmp_path: Path) -> None:
    """A shell with job control leads the session, the run is its job in the foreground, Ray is the run's own."""
    keyboard, screen = os.openpty()
    words = [sys.executable, "-m", "distmed", "train", "--num-workers", "1", *SMALL, "train.max_steps=5000"]
    environment = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
    shell = subprocess.Popen(
        ["bash", "-m", "-c", f"{shlex.join(words)}; true"],
        cwd=tmp_path,
        env=environment | {"WANDB_MODE": "disabled"},
        stdin=screen,
        stdout=screen,
        stderr=screen,
        start_new_session=True,
        preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
    )
    os.close(screen)
    run = Run(tmp_path / "runs" / "small")
    run.wait_for_step(3, shell)  # type: ignore[arg-type]
    driver = psutil.Process(json.loads((run.path / "lock.json").read_text())["pid"])
    assert os.getpgid(driver.pid) == driver.pid != os.getsid(driver.pid)
    started = driver.children(recursive=True)
    assert any("raylet" in process.name() for process in started)
    os.close(keyboard)
    driver.wait(120)
    _, left = psutil.wait_procs(started, timeout=30)
    assert not left
    assert run.checkpoints[-1].startswith(f"step-{max(run.losses):08d}-")
    assert verify(run.path / "checkpoints" / run.checkpoints[-1]) is None
    assert not (run.path / "lock.json").exists()
    shell.wait(10)
