"""A tiny training run in the lab, as a user starts it, and what it leaves."""

from __future__ import annotations

import json
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.lab.hosts import Host, environment, wait_until
from tests.lab.ray_nodes import RayCluster

GLOBAL_BATCH = 6
RECIPE = [
    "data.train.0.limit=120",
    "data.eval.0.limit=12",
    "data.seq_len=80",
    f"train.global_batch={GLOBAL_BATCH}",
    "train.micro_batch=3",
    "train.epochs=1000",
    "optimizer.warmup=5",
    "optimizer.schedule=constant",
    "train.log_every=1",
    "train.eval_every=100000",
    "train.linear_floor=false",
    "checkpoint.every=5",
]
# No fault outlasts them, and they are laid out in seconds.
ENDLESS = "train.max_steps=20000"


# Each limit is for a machine that does much else; what a test promises is measured from a fault, not from a start.
PATIENCE_S = 900.0
# Those that a test has begun.
begun: list[LabRun] = []


@dataclass
class LabRun:
    """`distmed train` on some host, its folder, its process and the file of what it says."""

    path: Path
    process: subprocess.Popen[str]
    said: Path

    @property
    def losses(self) -> dict[int, float]:
        if not (self.path / "metrics.jsonl").exists():
            return {}
        lines = [
            json.loads(line) for line in (self.path / "metrics.jsonl").read_text().splitlines() if line.endswith("}")
        ]
        found = [line for line in lines if "train/loss" in line]
        assert len({line["step"] for line in found}) == len(found), "a step was logged twice"
        return {line["step"]: line["train/loss"] for line in found}

    @property
    def attempts(self) -> int:
        """The highest attempt that has logged a step."""
        if not (self.path / "metrics.jsonl").exists():
            return -1
        text = (self.path / "metrics.jsonl").read_text()
        return max((json.loads(line)["attempt"] for line in text.splitlines() if line.endswith("}")), default=-1)

    @property
    def summary(self) -> dict[str, Any]:
        return json.loads((self.path / "summary.json").read_text())

    @property
    def checkpoints(self) -> list[str]:
        return sorted(path.name for path in (self.path / "checkpoints").glob("step-*"))

    def wait_for_step(self, step: int, seconds: float = PATIENCE_S) -> None:
        def reached() -> bool:
            if self.process.poll() is not None:
                raise AssertionError(f"ended with {self.process.returncode} before step {step}: {self.output()}")
            return max(self.losses, default=0) >= step

        wait_until(f"step {step} of {self.path.name}", seconds, reached)

    def wait_to_say(self, text: str, seconds: float = PATIENCE_S) -> None:
        def heard() -> bool:
            assert self.process.poll() is None or text in self.output(), f"ended without {text!r}: {self.output()}"
            return text in self.output()

        wait_until(f"{self.path.name} to say {text!r}", seconds, heard)

    def end(self, seconds: float = PATIENCE_S) -> tuple[int, str]:
        """Exit status and what was said."""
        try:
            self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"not ended within {seconds:g} s: {self.output()}") from None
        return self.process.returncode, self.output()

    def output(self) -> str:
        return self.said.read_text(errors="replace")


def start(folder: Path, host: Host, cluster: RayCluster | None, name: str, *arguments: str, **variables: str) -> LabRun:
    """`distmed train` on `host`, on the workers of `cluster` or, without one, on a Ray of its own; runs go to `folder`/runs."""
    known = {**cluster.environment, "RAY_ADDRESS": cluster.address} if cluster else environment()
    # Into a file: a pipe that nobody reads would hold the run up when it is full.
    said = folder / f"{name}-{len(list(folder.glob(f'{name}-*.said')))}.said"
    with said.open("w") as log:
        process = host.start(
            "distmed", "train", *RECIPE, *arguments, "--name", name,
            cwd=folder, log=log, env={**known, **variables},
        )  # fmt: skip
    run = LabRun(folder / "runs" / name, process, said)
    begun.append(run)
    return run


def end_all() -> None:
    """Runs that a test which failed has left."""
    for run in begun:
        if run.process.poll() is None:
            run.process.kill()
            run.process.wait()
    begun.clear()
