"""`distmed` as a user starts it: a process in a folder of its own, on the Ray of all tests."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.train.door import NAME, SMALL, Door

# In the environment of every run, where keys belong; nothing that a run leaves may have it.
SECRET = "planted" + "5f" * 20


@dataclass(frozen=True)
class Run:
    """A run directory, read as a script would read it."""

    path: Path

    @property
    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in (self.path / "metrics.jsonl").read_text().splitlines()]

    @property
    def losses(self) -> dict[int, float]:
        lines = [line for line in self.lines if "train/loss" in line]
        assert len({line["step"] for line in lines}) == len(lines), "a step was logged twice"
        return {line["step"]: line["train/loss"] for line in lines}

    @property
    def summary(self) -> dict[str, Any]:
        return json.loads((self.path / "summary.json").read_text())

    @property
    def checkpoints(self) -> list[str]:
        return sorted(path.name for path in (self.path / "checkpoints").glob("step-*"))

    def wait_for_step(self, step: int, process: subprocess.Popen[str]) -> None:
        """Until it is in the metrics of the run, which `process` goes on with."""
        deadline = time.monotonic() + 300
        while not (self.path / "metrics.jsonl").exists() or max(self.losses, default=0) < step:
            assert process.poll() is None, process.communicate()[0]
            assert time.monotonic() < deadline, f"step {step} was not reached"
            time.sleep(0.1)


@pytest.fixture(scope="session")
def start(ray_address: str, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., subprocess.Popen[str]]:
    """Start `distmed train …` in the session's folder; runs go to runs/NAME there."""
    folder = tmp_path_factory.mktemp("distmed")
    # The shared Ray does not know the variables of a later process: workers get theirs from the driver.
    keys = {"WANDB_API_KEY": SECRET, "HF_TOKEN": SECRET}
    environment = {**os.environ, **keys, "RAY_ADDRESS": ray_address, "WANDB_MODE": "offline", "COLUMNS": "200"}

    def started(*arguments: str, **options: Any) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "distmed", "train", *arguments]
        environment_of_run = {**environment, **options.pop("env", {})}
        return subprocess.Popen(
            command,
            cwd=folder,
            env=environment_of_run,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            **options,
        )

    started.folder = folder  # type: ignore[attr-defined]
    return started


@pytest.fixture(scope="session")
def train(start: Callable[..., subprocess.Popen[str]]) -> Callable[..., Run]:
    """Run `distmed train …` to its end with exit status `status`; the run."""

    def trained(name: str, *arguments: str, status: int = 0, **options: Any) -> Run:
        process = start(*arguments, "--name", name, **options)
        output, _ = process.communicate(timeout=400)
        assert process.returncode == status, output
        return Run(start.folder / "runs" / name)  # type: ignore[attr-defined]

    return trained


@pytest.fixture(scope="session")
def small(train: Callable[..., Run]) -> Run:
    """The small run, finished; for tests that go on from a copy of it."""
    return train(NAME, *SMALL, env={"WANDB_MODE": "disabled"})


@pytest.fixture
def door(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Door:
    """`distmed train …` in an empty folder, in this process."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("WANDB_MODE", "disabled")
    return Door(tmp_path, capfd)


@pytest.fixture
def early(door: Door, monkeypatch: pytest.MonkeyPatch) -> Door:
    """As `door`, for what must be refused without a cluster."""
    from distmed import session

    def connected() -> None:
        raise AssertionError("a cluster was asked for before this was refused")

    monkeypatch.setattr(session, "connected", connected)
    return door
