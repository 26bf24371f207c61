"""`sbatch slurm/train.sh` on a real Slurm of two nodes: it trains, saves when asked, goes on after a requeue, ends clean."""

from __future__ import annotations

import json
import os
import re
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from tests.lab import secrets
from tests.lab import slurm as lab_slurm
from tests.lab.figures import full
from tests.lab.hosts import ROOT, Lab, wait_until
from tests.lab.memory import orphans, shared_memory
from tests.lab.runs import ENDLESS, RECIPE, start
from tests.lab.slurm import Job, Slurm, slurm_on

TRAIN = str(ROOT / "slurm" / "train.sh")


@pytest.fixture(scope="module")
def slurm(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Slurm]:
    if reason := lab_slurm.why_not():
        pytest.skip(reason)
    with slurm_on(lab, tmp_path_factory.mktemp("slurm"), hosts=2) as started:
        yield started


def steps_of(folder: Path, name: str) -> list[int]:
    metrics = folder / "runs" / name / "metrics.jsonl"
    lines = metrics.read_text().splitlines() if metrics.exists() else []
    return [line["step"] for line in map(json.loads, lines) if "train/loss" in line]


def nothing_left(slurm: Slurm) -> None:
    """No process of the job and none of its files, on any node, and none of its shared memory."""

    def left() -> list[str]:
        found = [command for host in slurm.hosts for command in host.commands().values()]
        return [command for command in found if "slurmd" not in command and "slurmstepd" not in command]

    wait_until("an empty cluster", 45, lambda: not left())
    assert not temporary_folders() - slurm.found
    assert not orphans(shared_memory() - slurm.memory)


def temporary_folders() -> set[Path]:
    return set(Path("/tmp").glob("distmed-*-*"))


def umask() -> int:
    before = os.umask(0)
    os.umask(before)
    return before


@pytest.fixture
def submit(slurm: Slurm, tmp_path: Path) -> Callable[..., Job]:
    def submitted(*arguments: str, nodes: int = 2, **variables: str) -> Job:
        return slurm.submit(tmp_path, f"--nodes={nodes}", TRAIN, *arguments, *RECIPE, **variables)

    return submitted


def test_srun_reaches_both_nodes(slurm: Slurm) -> None:
    assert sorted(slurm.command("srun", "-N2", "hostname").stdout.split()) == ["n1", "n2"]


def test_a_signal_saves_requeues_and_resumes(slurm: Slurm, submit: Callable[..., Job], tmp_path: Path) -> None:
    job = submit("name=requeued", "train.max_steps=14", **secrets.PLANTED)
    job.wait_for("step 4/14", 900)
    assert secrets.reach_a_worker(slurm.hosts)
    assert secrets.shown_by_commands(slurm.hosts) == []
    of_ray = [path for path in Path(f"/tmp/distmed-{job.number}-0").rglob("*") if path.is_file()]
    assert "raylet.out" in {path.name for path in of_ray}
    assert secrets.held_by_files(of_ray) == []
    job.signal("USR1")
    job.wait_for("requeued: goes on", 90)
    saved = max(steps_of(tmp_path, "requeued"))
    state = job.wait_for_end(900)
    assert (state, job.exit_status, job.restarts) == ("COMPLETED", 0, 1), job.log
    assert steps_of(tmp_path, "requeued") == list(range(1, 15))
    assert f"resumed after step {saved}" in job.log
    for phase in (
        "head up on n1",
        "cluster up: 2 nodes",
        "first step",
        "got USR1",
        "with a checkpoint saved",
        "requeued",
    ):
        assert phase in job.log
    nothing_left(slurm)
    of_job = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert {"recipe.yaml", "environment.json", "log.txt"} <= {path.name for path in of_job}
    assert secrets.held_by_files(of_job) == []
    # What holds no text of patients has the user's umask, also where a worker or the logbook wrote it.
    run = tmp_path / "runs" / "requeued"
    for path in (run / "metrics.jsonl", *run.glob("checkpoints/step-*/*.safetensors")):
        assert oct(path.stat().st_mode & 0o777) == oct(0o666 & ~umask()), path


def test_a_notice_before_anything_is_done_requeues_nothing(slurm: Slurm, submit: Callable[..., Job]) -> None:
    """Where the time limit leaves no room for a step, the next attempt would come no further."""
    job = submit("name=hurried", ENDLESS, nodes=1)
    job.wait_for("head up on n", 300)
    job.signal("USR1")
    assert job.wait_for_end(120) == "FAILED"
    assert "not requeued: nothing was done before the notice" in job.log
    nothing_left(slurm)


def want_the_nodes(slurm: Slurm, folder: Path) -> Job:
    """A job of higher priority that needs both of them."""
    wait = "--wrap=sleep 5"
    return slurm.submit(folder, "--nodes=2", "--exclusive", "--partition=urgent", "--output=other.log", wait)


@pytest.mark.parametrize("moment", ["head up on n", "step 4/14"])
def test_a_job_that_gives_way_to_another_comes_back(
    slurm: Slurm, submit: Callable[..., Job], tmp_path: Path, moment: str
) -> None:
    """Also where nothing was done yet, since that says nothing of the job's own time limit."""
    job = submit("name=gives-way", "train.max_steps=14")
    job.wait_for(moment, 900)
    other = want_the_nodes(slurm, tmp_path)
    job.wait_for("got USR1, since another job wants the nodes", 60)
    job.wait_for("requeued: goes on", 90)
    saved = max(steps_of(tmp_path, "gives-way"), default=0)
    assert other.wait_for_end(120) == "COMPLETED"
    state = job.wait_for_end(900)
    assert (state, job.exit_status, job.restarts) == ("COMPLETED", 0, 1), job.log
    assert steps_of(tmp_path, "gives-way") == list(range(1, 15))
    assert (f"resumed after step {saved}" in job.log) == (saved > 0)
    nothing_left(slurm)


@full
def test_a_job_that_must_give_way_at_once_comes_back(slurm: Slurm, submit: Callable[..., Job], tmp_path: Path) -> None:
    """Without time for it: Slurm sends TERM with the notice, ends what is left after KillWait, and requeues the job itself."""
    job = submit("name=at-once", "train.max_steps=14", SBATCH_PARTITION="hasty")
    job.wait_for("step 4/14", 900)
    other = want_the_nodes(slurm, tmp_path)
    job.wait_for("requeued by Slurm: goes on", 60)
    saved = max(steps_of(tmp_path, "at-once"))
    assert other.wait_for_end(120) == "COMPLETED"
    state = job.wait_for_end(900)
    assert (state, job.exit_status, job.restarts) == ("COMPLETED", 0, 1), job.log
    assert steps_of(tmp_path, "at-once") == list(range(1, 15))
    assert f"resumed after step {saved}" in job.log
    nothing_left(slurm)


def test_an_evaluation_goes_on_after_a_requeue(slurm: Slurm, tmp_path: Path) -> None:
    trained = start(tmp_path, slurm.hosts[0], None, "first", "train.max_steps=2")
    assert trained.end()[0] == 0, trained.output()
    asked = ["runs/first/model", "--data", "builtin:patients/train", "--out", "evidence"]
    job = slurm.submit(tmp_path, "--nodes=2", str(ROOT / "slurm" / "evaluate.sh"), *asked)
    parts = tmp_path / "evidence" / "parts"
    wait_until("scored cases", 300, lambda: len(list(parts.glob("*.parquet"))) > 2, every=0.02)
    job.signal("USR1")
    job.wait_for("requeued: goes on", 90)
    assert job.wait_for_end(300) == "COMPLETED", job.log
    assert (job.exit_status, job.restarts) == (0, 1), job.log
    assert re.search(r"\d+ cases were scored before", job.log), job.log
    found = pq.read_table(tmp_path / "evidence" / "predictions.parquet", columns=["case_id"])["case_id"].to_pylist()
    assert len(found) == len(set(found)) == 4000
    assert not parts.exists()
    nothing_left(slurm)


def job_script(folder: Path, lines: str) -> str:
    """One that a site could write: what slurm/cluster.sh offers, around another command."""
    path = folder / "job.sh"
    path.write_text(
        "#!/bin/bash\n"
        "#SBATCH --requeue\n"
        "#SBATCH --output=%x-%j.log\n"
        "#SBATCH --open-mode=append\n"
        f"set -uo pipefail; original={TRAIN}; source {ROOT / 'slurm' / 'cluster.sh'}\n{lines}\n"
    )
    return str(path)


GPUS = (
    "import ray; ray.init(); print(sorted(node['Resources'].get('GPU', 0) for node in ray.nodes()), 'GPUs', flush=True)"
)


@pytest.mark.parametrize(
    ("asked", "there"),
    [("--gpus-per-node=2", [2, 2]), ("--gpus=3", [1, 2]), ("--gpus-per-task=1", [2, 2]), ("--gres=gpu:2", [2, 2])],
)
def test_gpus_are_there_on_each_node_however_a_job_asks_for_them(
    slurm: Slurm, tmp_path: Path, asked: str, there: list[int]
) -> None:
    """A job of two nodes and two tasks on each; Slurm counts two GPUs a node, and binds none."""
    script = job_script(tmp_path, f'phase "$(allocated_workers) workers"\non_cluster python -c "{GPUS}"')
    job = slurm.submit(tmp_path, "--nodes=2", "--ntasks-per-node=2", asked, script, DISTMED_CLUSTER_WAIT_S="60")
    assert job.wait_for_end(120) == "COMPLETED", job.log
    assert f"{sum(there)} workers" in job.log and f"{[float(each) for each in there]} GPUs" in job.log
    nothing_left(slurm)


@full
def test_a_driver_that_does_not_end_within_the_notice_is_ended_and_the_job_requeued(
    slurm: Slurm, tmp_path: Path
) -> None:
    script = job_script(
        tmp_path, "on_cluster python -c 'import signal; signal.pthread_sigmask(0, {10}); signal.pause()'"
    )
    job = slurm.submit(tmp_path, "--nodes=2", "--time=2", "--signal=B:USR1@60", script)
    job.wait_for("got USR1", 150)
    job.wait_for("requeued: goes on", 90)
    assert "time is nearly over: what is not saved by now is repeated" in job.log
    wait_until("the next start", 60, lambda: job.restarts == 1)
    slurm.command("scancel", str(job.number))
    job.wait_for_end(90)
    nothing_left(slurm)


def test_a_task_of_an_array_ends_its_own_steps_and_requeues_itself_alone(slurm: Slurm, tmp_path: Path) -> None:
    """One of an array's tasks has the number that stands for all of them; here its time runs out while the other works."""
    script = job_script(
        tmp_path,
        'if [[ $SLURM_JOB_ID == "$SLURM_ARRAY_JOB_ID" ]]; then\n'
        "    ((${SLURM_RESTART_COUNT:-0} == 0)) || exit 0\n"
        "    signaled=USR1 nodes=(n1 n2) temp=$(mktemp -d)\n"
        "    trap _finish EXIT; sleep 5; exit 130\n"
        "fi\n"
        "srun --overlap sleep 15 && echo undisturbed",
    )
    array = slurm.submit(tmp_path, "--nodes=1", "--cpus-per-task=1", "--array=1-2", script).number

    def shown() -> list[dict[str, str]]:
        lines = slurm.command("scontrol", "show", "job", str(array), "--oneliner").stdout.splitlines()
        return [dict(word.partition("=")[::2] for word in line.split() if "=" in word) for line in lines]

    wait_until("both to end", 120, lambda: {task["JobState"] for task in shown()} == {"COMPLETED"}, every=1)
    restarts = {task["JobId"] == str(array): int(task["Restarts"]) for task in shown()}
    assert restarts == {True: 1, False: 0}
    (other,) = (task for task in shown() if task["JobId"] != str(array))
    assert "undisturbed" in Path(other["StdOut"]).read_text()


def test_scancel_saves_and_ends(slurm: Slurm, submit: Callable[..., Job], tmp_path: Path) -> None:
    job = submit("name=cancelled", ENDLESS)
    job.wait_for("first step", 900)
    slurm.command("scancel", str(job.number))
    job.wait_for("ended with status 130", 60)
    saved = max(steps_of(tmp_path, "cancelled"))
    assert f"stopped after step {saved} with a checkpoint saved" in job.log
    assert "requeued" not in job.log
    assert (job.wait_for_end(60), job.restarts) == ("CANCELLED", 0)
    nothing_left(slurm)


def test_the_head_dies_and_the_job_goes_on(slurm: Slurm, submit: Callable[..., Job], tmp_path: Path) -> None:
    """And another job of the same user, on the same nodes at the same time, notices nothing of it."""
    job = submit("--name", "headless", "train.max_steps=14", "checkpoint.every=3")
    neighbor = submit("name=neighbor", "train.max_steps=14")
    job.wait_for("step 5/14", 900)
    (gcs,) = [
        pid
        for pid, command in slurm.hosts[0].commands().items()
        if "gcs_server" in command and f"distmed-{job.number}-" in command
    ]
    os.kill(gcs, signal.SIGKILL)
    died = time.monotonic()
    job.wait_for("the Ray head on n1 died", 60)
    job.wait_for("requeued: goes on", 60)
    assert time.monotonic() - died < 60
    assert "ended with status 137" in job.log
    assert (job.wait_for_end(900), job.restarts) == ("COMPLETED", 1), job.log
    assert (neighbor.wait_for_end(900), neighbor.restarts) == ("COMPLETED", 0), neighbor.log
    assert steps_of(tmp_path, "headless") == list(range(1, 15))
    assert steps_of(tmp_path, "neighbor") == list(range(1, 15))
    nothing_left(slurm)


def lose(slurm: Slurm, job: Job) -> None:
    """All that the job has on its second node dies at once."""
    assert slurm.hosts[1].kill(naming=f"distmed-{job.number}-")


@full
def test_a_node_is_lost_and_an_elastic_run_goes_on_with_the_other(
    slurm: Slurm, submit: Callable[..., Job], tmp_path: Path
) -> None:
    job = submit("name=shrinks", "train.max_steps=20", "checkpoint.every=3", "cluster.num_workers=[1,2]")
    job.wait_for("step 5/20", 900)
    lose(slurm, job)
    assert (job.wait_for_end(900), job.restarts) == ("COMPLETED", 0), job.log
    assert f"host {slurm.hosts[1].address} was lost" in job.log
    assert "on 1 workers instead of 2" in job.log
    assert steps_of(tmp_path, "shrinks") == list(range(1, 21))
    nothing_left(slurm)


@full
def test_a_node_is_lost_and_a_run_of_fixed_size_is_requeued(
    slurm: Slurm, submit: Callable[..., Job], tmp_path: Path
) -> None:
    job = submit("name=waits", "train.max_steps=20", "checkpoint.every=3")
    job.wait_for("step 5/20", 900)
    lose(slurm, job)
    job.wait_for("2 workers are needed", 300)
    job.wait_for("requeued: goes on", 120)
    assert (job.wait_for_end(900), job.restarts) == ("COMPLETED", 1), job.log
    assert steps_of(tmp_path, "waits") == list(range(1, 21))
    nothing_left(slurm)


def test_a_node_that_does_not_come_is_named(slurm: Slurm, submit: Callable[..., Job], tmp_path: Path) -> None:
    setup = tmp_path / "setup.sh"
    setup.write_text("[[ $SLURMD_NODENAME != n2 ]] || exec sleep 1000\n")
    job = submit("name=alone", DISTMED_SETUP=str(setup), DISTMED_CLUSTER_WAIT_S="15")
    assert job.wait_for_end(120) == "FAILED"
    assert "1 of 2 nodes did not join within 15 s: n2" in job.log
    nothing_left(slurm)


def test_a_mistake_in_the_recipe_is_told_before_a_cluster_starts(slurm: Slurm, tmp_path: Path) -> None:
    """From a checkout whose path has a space, with words that have some, too."""
    (tmp_path / "my project").symlink_to(ROOT)
    script = tmp_path / "my project" / "slurm" / "train.sh"
    job = slurm.submit(tmp_path, "--nodes=1", str(script), "train.max_stepz=3", "tracking.group=a b")
    assert (job.wait_for_end(60), job.exit_status) == ("FAILED", 2)
    assert "unknown recipe key: train.max_stepz" in job.log
    assert "head up" not in job.log
