"""A tiny training run in the lab, as a user starts it, and what it leaves."""

from __future__ import annotations

import json
import os
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.lab.hosts import Host, wait_until
from tests.lab.ray_nodes import RayCluster

RECIPE = [
    "data.train.0.limit=120",
    "data.eval.0.limit=12",
    "data.seq_len=80",
    "train.global_batch=6",
    "train.micro_batch=3",
    "train.epochs=1000",
    "optimizer.warmup=5",
    "optimizer.schedule=constant",
    "train.log_every=1",
    "train.eval_every=100000",
    "train.linear_floor=false",
    "checkpoint.every=5",
]


@dataclass
class LabRun:
    """`distmed train` on some host, its folder and its process."""

    path: Path
    process: subprocess.Popen[str]

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

    def wait_for_step(self, step: int, seconds: float = 180) -> None:
        def reached() -> bool:
            if self.process.poll() is not None:
                raise AssertionError(f"ended with {self.process.returncode} before step {step}: {self.output()}")
            return max(self.losses, default=0) >= step

        wait_until(f"step {step} of {self.path.name}", seconds, reached)

    def end(self, seconds: float = 240) -> tuple[int, str]:
        """Exit status and what was said."""
        output, _ = self.process.communicate(timeout=seconds)
        return self.process.returncode, output

    def output(self) -> str:
        return self.process.communicate(timeout=20)[0]


def start(folder: Path, host: Host, cluster: RayCluster, name: str, *arguments: str, **variables: str) -> LabRun:
    """`distmed train` on `host`, on the workers of `cluster`; runs go to `folder`/runs."""
    process = host.start(
        "distmed", "train", *RECIPE, *arguments, "--name", name,
        cwd=folder, env={**cluster.environment, "RAY_ADDRESS": cluster.address, **variables},
    )  # fmt: skip
    return LabRun(folder / "runs" / name, process)


def alive(pids: list[int]) -> list[int]:
    """Those of `pids` that still run, zombies left out."""
    found = []
    for pid in pids:
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except OSError:
            continue
        if state != "Z" and pid != os.getpid():
            found.append(pid)
    return found
