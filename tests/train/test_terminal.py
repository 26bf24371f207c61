"""A run at a desk whose terminal is closed: what was trained is saved, and nothing is left running."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shlex
import signal
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


def takes_the_terminal() -> None:
    """In the shell, before it begins. That the tests themselves may be run by nohup is none of its matter."""
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)
    for each in (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT):
        signal.signal(each, signal.SIG_DFL)


def end(session: int) -> None:
    """Nothing that hangs may stay beside the tests after it."""
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, ProcessLookupError):
            if os.getsid(process.pid) == session:
                process.kill()


def test_a_run_whose_terminal_is_closed_saves_and_ends(tmp_path: Path, request: pytest.FixtureRequest) -> None:
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
        preexec_fn=takes_the_terminal,
    )
    request.addfinalizer(lambda: end(shell.pid))
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
