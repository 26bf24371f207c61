"""`distmed tune` through the user's door, on the Ray of all tests: in this process, or as one of its own that can be killed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from distmed.cli import main
from tests.train.door import Refusal, refusal_in
from tests.tune.watching import finished

LR = "optimizer.lr"
SMALL: dict[str, Any] = {
    "name": "small",
    "task": "classify",
    "model": {"path": "builtin:tiny-llama", "init": "random"},
    "data": {
        "train": [{"source": "builtin:patients/train", "limit": 100}],
        "eval": [{"source": "builtin:patients/eval", "limit": 30}],
        "seq_len": 128,
    },
    "train": {"max_steps": 4, "global_batch": 4, "micro_batch": 4, "log_every": 1, "eval_every": 2},
    "checkpoint": {"best": "diag/macro_f1"},
    "tracking": {"wandb": "disabled"},
    "tune": {"trials": 2, "scheduler": "none", "space": {LR: {"loguniform": [1e-5, 1e-2]}}},
}
# One that learns nothing (the recipe's own), one that learns, one whose gradients are soon not finite.
RATES = [1e-9, 1e-3, 1e30]


def changed(values: dict[str, Any], **changes: Any) -> dict[str, Any]:
    """A copy in which dotted keys (with __ for dots) have other values."""
    from distmed.overrides import assign

    copied = json.loads(json.dumps(values))
    for key, value in changes.items():
        assign(copied, key.replace("__", "."), value)
    return copied


@dataclass
class TuneDoor:
    """A folder to start from. `capfd` is for what is refused in this process."""

    folder: Path
    capfd: pytest.CaptureFixture[str] | None = None

    def recipe(self, values: dict[str, Any]) -> str:
        (self.folder / "recipe.yaml").write_text(yaml.safe_dump(values))
        return "recipe.yaml"

    def status(self, values: dict[str, Any], *arguments: str) -> int:
        with pytest.raises(SystemExit) as ended:
            main(["tune", self.recipe(values), *arguments])
        assert isinstance(ended.value.code, int)
        return ended.value.code

    def said(self) -> str:
        assert self.capfd is not None
        return "".join(self.capfd.readouterr())

    def refuse(self, values: dict[str, Any], *arguments: str) -> Refusal:
        """Status 2, two lines, and nothing left behind."""
        assert self.capfd is not None
        self.capfd.readouterr()
        status = self.status(values, *arguments)
        out, err = self.capfd.readouterr()
        assert status == 2, out + err
        assert not (self.folder / "runs").exists() or not any((self.folder / "runs").iterdir())
        return refusal_in(out, err)

    def start(self, values: dict[str, Any], *arguments: str) -> subprocess.Popen[str]:
        """A search in a process of its own."""
        import ray

        address = ray.get_runtime_context().gcs_address
        return subprocess.Popen(
            [sys.executable, "-m", "distmed", "tune", self.recipe(values), *arguments],
            cwd=self.folder,
            env={**os.environ, "RAY_ADDRESS": address, "WANDB_MODE": "disabled", "COLUMNS": "200"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )


GRID = changed(
    SMALL,
    optimizer={"lr": RATES[0], "warmup": 0, "schedule": "constant"},
    train={**SMALL["train"], "max_steps": 24, "eval_every": 4},
    tune={
        "search": "grid",
        "metric": "eval/loss",
        "scheduler": "none",
        "concurrency": 1,
        "space": {LR: {"choice": RATES}},
    },
)


@dataclass(frozen=True)
class Searched:
    """A search that has ended. Nobody changes it."""

    run: Path
    output: str


@pytest.fixture(scope="session")
def searched(ray_address: str, tmp_path_factory: pytest.TempPathFactory) -> Searched:
    """The grid, undisturbed, with test cases."""
    door = TuneDoor(tmp_path_factory.mktemp("searched"))
    process = door.start(changed(GRID, data__test=[{"source": "builtin:patients/eval", "limit": 40}]))
    return Searched(door.folder / "runs" / "small", finished(process))


@pytest.fixture
def door(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> TuneDoor:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("WANDB_MODE", "disabled")
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    return TuneDoor(tmp_path, capfd)


@pytest.fixture
def early(door: TuneDoor, monkeypatch: pytest.MonkeyPatch) -> TuneDoor:
    """As `door`, for what must be refused without a cluster."""
    from distmed import session

    def connected() -> None:
        raise AssertionError("a cluster was asked for before this was refused")

    monkeypatch.setattr(session, "connected", connected)
    return door
