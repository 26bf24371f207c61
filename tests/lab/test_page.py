"""The commands of docs/clusters.md as they stand: at a desk, on Slurm, on Ray. Only where things lie is set from outside."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path

import pytest

from tests.lab import slurm as lab_slurm
from tests.lab.figures import full
from tests.lab.hosts import ROOT, Host, Lab, environment
from tests.lab.ray_nodes import DASHBOARD, ray_on
from tests.lab.slurm import Job, slurm_on


def commands(heading: str, block: int = 0) -> list[str]:
    """Those of the n-th console block below a heading."""
    section = (ROOT / "docs" / "clusters.md").read_text().split(f"\n## {heading}\n")[1].split("\n## ")[0]
    found = re.findall(r"```console\n(.*?)```", section, re.DOTALL)[block]
    return [line.removeprefix("$ ") for line in found.replace("\\\n", "").splitlines() if line.startswith("$ ")]


def types(host: Host, command: str, variables: dict[str, str]) -> str:
    """What a person sees who types `command` in the repository."""
    done = subprocess.run(
        [*host.enter, "bash", "-c", command], env=variables, cwd=ROOT, capture_output=True, text=True, timeout=1200
    )
    said = done.stdout + done.stderr
    assert done.returncode == 0, f"{command}: {said}"
    return said


def steps(runs: Path, name: str) -> int:
    return int(json.loads((runs / name / "summary.json").read_text())["steps"])


@full
def test_the_page_at_a_desk(lab: Lab, tmp_path: Path) -> None:
    start, resume = commands("At a desk")
    variables = {**environment(), "DISTMED_RUNS": str(tmp_path)}
    types(lab[3], start, variables)
    assert steps(tmp_path, "smoke") > 0
    types(lab[3], resume, variables)
    assert not lab[3].commands()


@full
def test_the_page_on_slurm(lab: Lab, tmp_path: Path) -> None:
    if reason := lab_slurm.why_not():
        pytest.skip(reason)
    folder = tmp_path / "slurm"
    folder.mkdir()
    with slurm_on(lab, folder, hosts=2) as slurm:
        log = str(tmp_path / "%x-%j.log")
        variables = {**slurm.environment, "DISTMED_RUNS": str(tmp_path), "SBATCH_OUTPUT": log}
        said = subprocess.run(
            ["bash", "-c", commands("Slurm")[0]], env=variables, cwd=ROOT, capture_output=True, text=True, check=True
        ).stdout
        job = Job(slurm, int(said.split()[-1]), tmp_path)
        assert job.wait_for_end(1200) == "COMPLETED", job.log
        assert steps(tmp_path, "first") > 0
        evaluation = (
            commands("Slurm")[4].replace("runs/first", f"{tmp_path}/first").replace("evidence", f"{tmp_path}/out")
        )
        said = subprocess.run(
            ["bash", "-c", evaluation.replace("dev.jsonl", "builtin:patients/eval")],
            env=variables, cwd=ROOT, capture_output=True, text=True, check=True,
        ).stdout  # fmt: skip
        job = Job(slurm, int(said.split()[-1]), tmp_path)
        assert job.wait_for_end(1200) == "COMPLETED", job.log
    assert (tmp_path / "out" / "metrics.json").is_file()


@full
def test_the_page_on_ray(lab: Lab, tmp_path: Path) -> None:
    _, first, second, *others = commands("Ray")
    with ray_on(lab.folder, lab.hosts[:2], cpus=1, dashboard=True) as cluster:
        variables = {
            **cluster.environment,
            "RAY_API_SERVER_ADDRESS": f"http://{cluster.head.address}:{DASHBOARD}",
            "DISTMED_RUNS": str(tmp_path),
        }
        assert "ships " in types(lab[0], first, variables)
        assert steps(tmp_path, "first") > 0
        types(lab[0], second, variables)
        for command in others:
            types(lab[0], command, variables)
        (bare,) = commands("Ray", 1)
        types(lab[0], bare, variables)
