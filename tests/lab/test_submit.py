"""`launch/submit.sh` on a Ray cluster of two hosts: starts, follows, stops with a checkpoint; and no secret is left behind."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.lab import secrets
from tests.lab.hosts import ROOT, Lab, wait_until
from tests.lab.ray_nodes import DASHBOARD, RayCluster, ray_on
from tests.lab.runs import RECIPE

SUBMIT = str(ROOT / "launch" / "submit.sh")


@pytest.fixture(scope="module")
def cluster(lab: Lab) -> Iterator[RayCluster]:
    with ray_on(lab.folder, lab.hosts[:2], cpus=1, dashboard=True, **secrets.PLANTED) as started:
        yield started


class Submit:
    """The script, from a folder that is not the repository."""

    def __init__(self, lab: Lab, cluster: RayCluster, folder: Path) -> None:
        self.lab, self.folder = lab, folder
        (folder / "work").mkdir()
        self.runs = folder / "runs"
        self.environment = {
            **cluster.environment,
            "RAY_API_SERVER_ADDRESS": f"http://{cluster.head.address}:{DASHBOARD}",
            "DISTMED_RUNS": str(self.runs),
        }

    def __call__(self, *words: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        return self.lab[0].run(SUBMIT, *words, check=check, env=self.environment, cwd=self.folder / "work")

    def steps(self, name: str) -> int:
        path = self.runs / name / "metrics.jsonl"
        return len(path.read_text().splitlines()) if path.exists() else 0


@pytest.fixture
def submit(lab: Lab, cluster: RayCluster, tmp_path: Path) -> Submit:
    return Submit(lab, cluster, tmp_path)


def test_a_job_is_called_as_its_run_and_stops_with_a_checkpoint(lab: Lab, submit: Submit) -> None:
    said = submit("name=job", *RECIPE, "train.max_steps=5000", "--num-workers", "2", "--no-wait").stdout
    assert "ships 0.0 MiB" in said
    wait_until("three steps", 900, lambda: submit.steps("job") >= 3, every=0.5)
    assert "RUNNING" in submit("status", "job").stdout
    assert secrets.reach_a_worker(lab.hosts)
    assert secrets.shown_by_commands(lab.hosts) == []
    assert "Job 'job' was stopped" in submit("stop", "job").stdout
    assert "with a checkpoint saved" in submit("logs", "job").stdout
    saved = sorted(path.name for path in (submit.runs / "job" / "checkpoints").glob("step-*"))
    assert saved and (submit.runs / "job" / "checkpoints" / saved[-1]).is_dir()
    assert not (submit.runs / "job" / "lock.json").exists()
    left = [command for host in lab.hosts for command in host.commands().values() if "RayTrainWorker" in command]
    assert not left
    logs = [Path(f"/tmp/lab-ray-{host.name}/session_latest/logs") for host in lab.hosts[:2]]
    files = [path for folder in (submit.runs, *logs) for path in folder.rglob("*") if path.is_file()]
    assert {"recipe.yaml", "environment.json", "raylet.out"} <= {path.name for path in files}
    assert secrets.held_by_files(files) == []
    goes_on = submit("name=job", *RECIPE, "train.max_steps=6", "--num-workers", "2", "--resume", check=False)
    assert "resumed after step" in goes_on.stdout or "no step was trained" in goes_on.stdout


def test_what_holds_text_of_patients_is_for_its_owner_alone(submit: Submit) -> None:
    submit("name=files", *RECIPE, "train.max_steps=2", "--num-workers", "1")
    run = submit.runs / "files"
    held = [path for path in [*(run / "data").rglob("*"), run / "log.txt"] if path.is_file()]
    assert held
    assert {oct(path.stat().st_mode & 0o077) for path in held} == {"0o0"}
    assert json.loads((run / "summary.json").read_text())["steps"] == 2
