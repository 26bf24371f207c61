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
def tool(tmp_path: Path) -> Callable[[str, str], None]:
    """What a site has, or a stand-in for it: a command by name, and the lines that it runs."""

    def made(name: str, lines: str) -> None:
        path = tmp_path / "bin" / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(f"#!/bin/bash\n{lines}\n")
        path.chmod(0o755)

    return made


@pytest.fixture
def script(tmp_path: Path, tool: Callable[[str, str], None]) -> Script:
    """Lines that run where cluster.sh was sourced in the first job of a site; `scontrol` writes down what it is asked."""
    tool("scontrol", f'[[ $1 != requeue ]] || echo "$@" >>{tmp_path}/asked\n[[ $1 != requeue ]] || exit $REFUSES')

    def run(lines: str, **variables: str) -> str:
        start = f"set -uo pipefail\noriginal={ROOT}/slurm/train.sh\nsource {ROOT}/slurm/cluster.sh\n"
        environment = {
            "PATH": f"{tmp_path}/bin:{os.environ['PATH']}",
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
        ({"SLURM_GPUS": "volta:3,kepler"}, 4),
        ({"SLURM_GPUS": "16", "DISTMED_GPUS_PER_NODE": "4"}, 8),
        ({"SLURM_GPUS_ON_NODE": "8", "SLURM_NTASKS": "6", "DISTMED_GPUS_PER_NODE": "0"}, 6),
        ({"SLURM_GPUS_ON_NODE": "8"}, 16),
        ({"SLURM_NTASKS": "6"}, 6),
        ({"SLURM_GPUS_ON_NODE": "0"}, 2),
    ],
)
def test_there_is_a_worker_for_each_gpu_or_else_for_each_task(
    script: Script, variables: dict[str, str], workers: int
) -> None:
    assert script("allocated_workers", **variables).strip() == str(workers)


@pytest.mark.parametrize(
    ("variables", "refused"),
    [
        ({}, True),
        ({"SLURM_GPUS_ON_NODE": "0"}, True),
        ({"SLURM_GPUS_ON_NODE": "2"}, False),
        ({"SLURM_GPUS": "4"}, False),
        ({"DISTMED_GPUS_PER_NODE": "0"}, False),
    ],
)
def test_gpus_that_slurm_did_not_give_are_told_before_a_job_trains_on_cpus(
    script: Script, tool: Callable[[str, str], None], variables: dict[str, str], refused: bool
) -> None:
    tool("nvidia-smi", "echo 'GPU 0: H100'; echo 'GPU 1: H100'")
    said = script("(_refuse_idle_gpus); echo $?", **variables)
    assert said.endswith("2\n" if refused else "0\n")
    assert ("this node has 2 GPUs, and Slurm gave none" in said) == refused
    tool("nvidia-smi", "exit 9")
    assert script("(_refuse_idle_gpus); echo $?", **variables) == "0\n"


def test_gpus_are_counted_as_slurm_gave_them_to_each_node(script: Script, tool: Callable[[str, str], None]) -> None:
    shown = "     Nodes=n[1-2] CPU_IDs=0-3 Mem=0 GRES=gpu:h100:4(IDX:0-3),gpu:2(IDX:4-5)\n     Nodes=n3 CPU_IDs=0 Mem=0 GRES="
    tool("scontrol", f'[[ $2 == hostnames ]] && printf "n1\\nn2\\n" || echo "{shown}"')
    assert script("_count_gpus\necho ${gpus[n1]} ${gpus[n2]} ${gpus[n3]:-none}") == "6 6 none\n"


@pytest.mark.parametrize(("ends", "seconds"), [("$(date --date '300 seconds' +%FT%T)", 250), ("N/A", None), ("", None)])
def test_a_driver_that_still_saves_is_ended_while_the_job_can_be_requeued(
    script: Script, tool: Callable[[str, str], None], ends: str, seconds: int | None
) -> None:
    tool("squeue", f'echo "{ends}"')
    said = script("last=$(_last_moment)\necho ${last:+$((last - EPOCHSECONDS))}").strip()
    assert said == "" if seconds is None else abs(int(said) - seconds) <= 2


def test_a_node_that_does_not_join_ends_a_job_for_good_only_at_its_first_start(
    script: Script, tool: Callable[[str, str], None], tmp_path: Path
) -> None:
    tool("python", "exit 1")
    tool("scontrol", "[[ $2 != hostnames ]] || echo n1")
    lines = "bash() { :; }\n_until_head() { RAY_ADDRESS=here; }\non_cluster true"
    job = {"SLURM_JOB_NODELIST": "n1", "SLURM_JOB_ID": f"distmed-{tmp_path.name}"}
    assert "requeued: goes on" not in script(lines, **job)
    assert "requeued: goes on" in script(lines, SLURM_RESTART_COUNT="1", **job)


REQUEUES = (
    "signaled=USR1 folder=$PWD/run progress='metrics.jsonl data/tokens-*'\n"
    "before=$(_progress)\n{}\n_wants_requeue 130 && echo yes"
)


def test_what_was_counted_or_trained_before_the_notice_is_worth_a_requeue(script: Script, tmp_path: Path) -> None:
    data = tmp_path / "run" / "data"
    for name in ("tokens-1", "cases-1"):
        (data / name).mkdir(parents=True)
    assert "nothing was done before the notice" in script(REQUEUES.format(""))
    assert script(REQUEUES.format(f"echo 1 >>{data}/tokens-1/ids.i4")) == "yes\n"
    rows = script(REQUEUES.format(f"echo 1 >>{data}/cases-1/00000.parquet"))
    assert "nothing was done before the notice" in rows, "a copy of raw rows begins anew each time"
    assert script(REQUEUES.format(f"echo 1 >>{tmp_path}/run/metrics.jsonl")) == "yes\n"
    assert script(REQUEUES.format("preempted=PreemptTime=2026-11-28T20:00:00")) == "yes\n"


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
