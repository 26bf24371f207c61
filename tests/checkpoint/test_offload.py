"""Optimizer state and parameters offloaded to the host: DeepSpeed's own CPU Adam, which counts its steps in plain integers."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from distmed.checkpoint import folder as folders

from .group import run_group

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1500)]

JOB: dict[str, Any] = {
    "stage": 3,
    "optimizer": "cpu_adam",
    "zero": {"offload_optimizer": {"device": "cpu"}, "offload_param": {"device": "cpu"}},
}


@pytest.fixture(scope="module")
def cpu_adam() -> None:
    """Its kernel is compiled once a machine, by one process: two would compile it against each other."""
    if not shutil.which("g++"):
        pytest.skip("DeepSpeed's CPU Adam is compiled on the spot and there is no g++")
    build = "from deepspeed.ops.op_builder import CPUAdamBuilder; CPUAdamBuilder().load()"
    subprocess.run([sys.executable, "-c", build], check=True, capture_output=True, timeout=580)


def test_an_offloaded_run_resumes_on_as_many_and_on_fewer_ranks(tmp_path: Path, cpu_adam: None) -> None:
    load = {**JOB, "load": str(tmp_path / folders.name(10, 2, 0))}
    straight, on_two = run_group(tmp_path, 2, [{**JOB, "root": str(tmp_path), "save": [10]}, load])
    (on_one,) = run_group(tmp_path, 1, [load])
    expected = {step: straight["losses"][step] for step in range(10, 20)}
    assert on_two["losses"] == expected
    assert on_one["losses"] == pytest.approx(expected, abs=1e-6)
    for resumed in (on_two, on_one):
        assert set(resumed["steps"]) == {20.0}
        assert all(torch.equal(resumed["loaded"][key], value) for key, value in straight["gathered-10"].items())
