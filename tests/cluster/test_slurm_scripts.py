"""What the functions of slurm/cluster.sh make of Slurm's variables, without a Slurm."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
Script = Callable[..., str]


@pytest.fixture
def script(tmp_path: Path) -> Script:
    """Lines that run where cluster.sh was sourced in the first job of a site; `scontrol` writes down what it is asked."""
    scontrol = tmp_path / "bin" / "scontrol"
    scontrol.parent.mkdir()
    scontrol.write_text(
        f'#!/bin/bash\n[[ $1 != requeue ]] || echo "$@" >>{tmp_path}/asked\n[[ $1 != requeue ]] || exit $REFUSES\n'
    )
    scontrol.chmod(0o755)

    def run(lines: str, **variables: str) -> str:
        start = f"set -uo pipefail\noriginal={ROOT}/slurm/train.sh\nsource {ROOT}/slurm/cluster.sh\n"
        environment = {
            "PATH": f"{scontrol.parent}:{os.environ['PATH']}",
            "SLURM_JOB_ID": "7",
            "SLURM_JOB_NUM_NODES": "2",
            "REFUSES": "0",
            **variables,
        }
        done = subprocess.run(
            ["bash", "-c", start + lines], env=environment, capture_output=True, text=True, cwd=tmp_path
        )
        assert done.stderr == "", done.stderr
        return done.stdout

    return run


@pytest.mark.parametrize(
    ("variables", "workers"),
    [
        ({"SLURM_GPUS": "12", "SLURM_GPUS_ON_NODE": "4"}, 12),
        ({"SLURM_GPUS": "h100:16"}, 16),
        ({"SLURM_GPUS_ON_NODE": "8"}, 16),
        ({"SLURM_NTASKS": "6"}, 6),
        ({"SLURM_GPUS_ON_NODE": "0"}, 2),
    ],
)
def test_there_is_a_worker_for_each_gpu_or_else_for_each_task(
    script: Script, variables: dict[str, str], workers: int
) -> None:
    assert script("allocated_workers", **variables).strip() == str(workers)


REQUEUES = "signaled=USR1 progress=$PWD/run/metrics.jsonl\nbefore=$(_progress)\n{}\n_wants_requeue 130 && echo yes"


def test_what_was_counted_or_trained_before_the_notice_is_worth_a_requeue(script: Script, tmp_path: Path) -> None:
    data = tmp_path / "run" / "data"
    for name in ("tokens-1", "cases-1"):
        (data / name).mkdir(parents=True)
    assert "nothing was done before the notice" in script(REQUEUES.format(""))
    assert script(REQUEUES.format(f"echo 1 >>{data}/tokens-1/ids.i4")) == "yes\n"
    rows = script(REQUEUES.format(f"echo 1 >>{data}/cases-1/00000.parquet"))
    assert "nothing was done before the notice" in rows, "a copy of raw rows begins anew each time"
    assert script(REQUEUES.format(f"echo 1 >>{tmp_path}/run/metrics.jsonl")) == "yes\n"


def test_a_job_is_requeued_no_more_often_than_allowed(script: Script) -> None:
    often = "signaled=USR1 broken=1\n_wants_requeue 1 && echo yes"
    assert script(often, SLURM_RESTART_COUNT="49").endswith("yes\n")
    assert "not requeued: it was 50 times" in script(often, SLURM_RESTART_COUNT="50")
    assert "not requeued: it was 2 times" in script(often, SLURM_RESTART_COUNT="2", DISTMED_MAX_REQUEUES="2")


@pytest.mark.parametrize("refuses", ["0", "1"])
def test_a_requeue_that_slurm_refuses_is_told(script: Script, tmp_path: Path, refuses: str) -> None:
    ends = "nodes=(n1) temp=$(mktemp -d) broken=1\ntrap _finish EXIT\nexit 1"
    said = script(ends, REFUSES=refuses, SLURM_ARRAY_JOB_ID="5", SLURM_ARRAY_TASK_ID="3")
    assert (tmp_path / "asked").read_text() == "requeue 5_3\n"
    assert ("not requeued: Slurm refused" in said) == (refuses == "1")
