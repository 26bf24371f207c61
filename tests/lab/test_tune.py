"""Searches on four hosts, two trials of two workers each at a time: what they outlive, and how a launch script starts them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml

from distmed.tune.record import Record, Trial
from tests.lab import slurm as lab_slurm
from tests.lab.figures import note
from tests.lab.hosts import ROOT, Host, Lab, wait_until
from tests.lab.ray_nodes import DASHBOARD, RayCluster, ray_on
from tests.lab.slurm import slurm_on

RECIPE: dict[str, Any] = {
    "name": "search",
    "task": "classify",
    "model": {"path": "builtin:tiny-llama", "init": "random"},
    "data": {
        "train": [{"source": "builtin:patients/train", "limit": 120}],
        "eval": [{"source": "builtin:patients/eval", "limit": 12}],
        "seq_len": 80,
    },
    "train": {"max_steps": 24, "global_batch": 6, "micro_batch": 3, "log_every": 1, "eval_every": 4},
    "optimizer": {"lr": 1e-3, "schedule": "constant", "warmup": 0},
    "checkpoint": {"best": "eval/loss", "every": 4},
    "cluster": {"num_workers": 2},
}
LR = "optimizer.lr"
WORKER, DRIVER = "ray::RayTrainWorker", "Trainable"


class Searching:
    """`distmed tune` on the first host, its folder, its record."""

    def __init__(self, folder: Path, host: Host, cluster: RayCluster) -> None:
        self.folder, self.host, self.cluster = folder, host, cluster
        self.run = folder / "runs" / "search"

    def recipe(self, tune: dict[str, Any], **changes: Any) -> Path:
        path = self.folder / "search.yaml"
        path.write_text(yaml.safe_dump({**RECIPE, **changes, "tune": tune}))
        return path

    def start(self, *arguments: str | Path) -> subprocess.Popen[str]:
        environment = {**self.cluster.environment, "RAY_ADDRESS": self.cluster.address}
        self.process = self.host.start("distmed", *arguments, cwd=self.folder, env=environment)
        return self.process

    def end(self, status: int = 0) -> str:
        output, _ = self.process.communicate(timeout=400)
        assert self.process.returncode == status, output
        return output

    @property
    def trials(self) -> dict[int, Trial]:
        return Record(self.run / "search.jsonl").trials

    def wait(self, what: str, holds: Any, seconds: float = 240) -> Any:
        def found() -> Any:
            if self.process.poll() is not None:
                raise AssertionError(f"ended with {self.process.returncode} before {what}: {self.end(-1)}")
            return holds()

        return wait_until(what, seconds, found)

    def logged(self, trial: int) -> list[dict[str, Any]]:
        """What a trial logged of its steps; each once."""
        path = self.run / "trials" / f"{trial:05d}" / "metrics.jsonl"
        lines = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
        assert [line["step"] for line in lines] == list(range(1, len(lines) + 1))
        return lines


@pytest.fixture(scope="module")
def cluster(lab: Lab) -> Iterator[RayCluster]:
    with ray_on(lab.folder, lab.hosts, cpus=1, dashboard=True) as started:
        yield started


@pytest.fixture
def search(lab: Lab, cluster: RayCluster, tmp_path: Path) -> Searching:
    return Searching(tmp_path, lab.hosts[0], cluster)


def workers(lab: Lab) -> list[str]:
    """The host of each training worker."""
    return [host.name for host in lab.hosts for command in host.commands().values() if WORKER in command]


def test_a_search_outlives_a_worker_a_trial_driver_a_host_and_its_own_driver(
    lab: Lab, cluster: RayCluster, search: Searching
) -> None:
    """Two settings, each tried twice: whatever dies, both tries of one log the same losses to the last digit."""
    tune = {
        "space": {LR: {"choice": [1e-3, 1e-2]}},
        "initial": [{LR: 1e-2}, {LR: 1e-3}, {LR: 1e-2}],
        "trials": 4,
        "scheduler": "none",
        "search": "random",
        "retries": 3,
    }
    recipe = search.recipe(tune)
    search.start("tune", recipe)
    search.wait("an evaluation of both trials", lambda: all(len(search.logged(trial)) >= 4 for trial in (0, 1)))
    assert sorted(workers(lab)) == ["n1", "n2", "n3", "n4"]

    assert len(lab.hosts[1].kill(naming=WORKER)) == 1
    search.wait("two trials", lambda: len(workers(lab)) == 4)
    drivers = [pid for pid, command in lab.hosts[0].commands().items() if DRIVER in command]
    assert len(drivers) == 2
    os.kill(drivers[0], signal.SIGKILL)
    search.wait("the retry", lambda: any(trial.retries for trial in search.trials.values()))

    cluster.lose(lab.hosts[3])
    search.wait("the loss", lambda: cluster.nodes() == 3)
    search.wait("a trial's end on three hosts", lambda: any(trial.ended for trial in search.trials.values()))
    cluster.join(lab.hosts[3], 1)

    search.wait("the last trial", lambda: len(search.logged(3)) >= 1)
    os.kill(search.process.pid, signal.SIGKILL)
    search.process.communicate()
    ended = {number for number, trial in search.trials.items() if trial.ended}
    lines = len((search.run / "search.jsonl").read_text().splitlines())
    killed = time.monotonic()
    search.start("tune", recipe, "--resume")
    search.end()
    note("kill -9 the driver of a search, to the end of the resumed search", time.monotonic() - killed)
    again = [json.loads(line) for line in (search.run / "search.jsonl").read_text().splitlines()[lines:]]
    assert ended and not ended & {event["trial"] for event in again}

    table = pd.read_parquet(search.run / "trials.parquet")
    of_csv = pd.read_csv(search.run / "trials.csv", keep_default_na=False, float_precision="round_trip")
    pd.testing.assert_frame_equal(table, of_csv, check_dtype=False)
    assert list(table["state"]) == ["done"] * 4
    assert list(table["steps"]) == [24] * 4
    assert list(table[LR]) == [1e-3, 1e-2, 1e-3, 1e-2]
    assert list(table["metric"][:2]) == list(table["metric"][2:])
    losses = [[line["train/loss"] for line in search.logged(trial)] for trial in range(4)]
    assert [len(each) for each in losses] == [24] * 4
    assert losses[:2] == losses[2:] and losses[0] != losses[1]
    assert sum(table["retries"]) >= 1
    wait_until("no worker left", 30, lambda: not workers(lab))


def test_a_population_copies_sharded_state_across_hosts_and_its_schedule_replays(lab: Lab, search: Searching) -> None:
    """All begin with a rate at which nothing is learned, and a copy gets one that learns: so the winner is a copy."""
    tune = {
        "space": {LR: {"choice": [1e-3, 1e-9, 2e-3]}},
        "initial": [{LR: 1e-9}],
        "trials": 2,
        "scheduler": "pbt",
        "quantile": 0.5,
        "exploit_every": 4,
    }
    storage = search.folder / "shared-storage"
    storage.mkdir()
    recipe = search.recipe(
        tune,
        optimizer={**RECIPE["optimizer"], "lr": 1e-9},
        train={**RECIPE["train"], "max_steps": 40},
        checkpoint={**RECIPE["checkpoint"], "storage_path": str(storage)},
    )
    search.start("tune", recipe)
    search.wait("two trials on four hosts", lambda: len(workers(lab)) == 4)
    search.end()
    best = json.loads((search.run / "summary.json").read_text())["best"]
    winner = search.trials[best["trials"][0]]
    assert [trial.state for trial in search.trials.values()] == ["done", "done"]
    assert len(winner.phases) > 1
    of_copy = storage / f"search-{winner.number:05d}.{winner.clones}"
    assert of_copy.is_dir() and all("-world-2-" in folder.name for folder in of_copy.glob("step-*"))
    search.start("train", search.run / "best.yaml", "--name", "replayed")
    search.end()
    lines = [
        json.loads(line) for line in (search.folder / "runs" / "replayed" / "metrics.jsonl").read_text().splitlines()
    ]
    replayed = [(line["step"], line["eval/loss"]) for line in lines if "eval/loss" in line]
    assert [(each.step, each.value) for each in winner.evaluations] == replayed


SMALL = {"space": {LR: {"choice": [1e-3, 1e-2]}}, "trials": 2, "scheduler": "none", "search": "grid"}


def test_a_search_as_a_ray_job(lab: Lab, cluster: RayCluster, tmp_path: Path) -> None:
    (tmp_path / "work").mkdir()
    recipe = Searching(tmp_path / "work", lab.hosts[0], cluster).recipe(
        SMALL, train={**RECIPE["train"], "max_steps": 4}
    )
    environment = {
        **cluster.environment,
        "RAY_API_SERVER_ADDRESS": f"http://{cluster.head.address}:{DASHBOARD}",
        "DISTMED_RUNS": str(tmp_path / "runs"),
    }
    submit = [ROOT / "launch" / "submit.sh", "tune", recipe.name, "--name", "job"]
    assert "best eval/loss" in lab.hosts[0].run(*submit, env=environment, cwd=recipe.parent).stdout
    assert list(pd.read_csv(tmp_path / "runs" / "job" / "trials.csv")["state"]) == ["done", "done"]
    assert (tmp_path / "runs" / "job" / "best.yaml").is_file()


def test_a_search_as_a_slurm_job_goes_on_after_a_requeue(lab: Lab, tmp_path: Path) -> None:
    """Last of this file: Slurm's end takes Ray's cluster on these hosts along."""
    if reason := lab_slurm.why_not():
        pytest.skip(reason)
    recipe = tmp_path / "search.yaml"
    recipe.write_text(yaml.safe_dump({**RECIPE, "cluster": {"num_workers": 1}, "tune": SMALL}))
    (tmp_path / "slurm").mkdir()
    with slurm_on(lab, tmp_path / "slurm", hosts=2) as slurm:
        job = slurm.submit(tmp_path, "--nodes=2", str(ROOT / "slurm" / "tune.sh"), str(recipe))
        job.wait_for("best so far", 300)
        job.signal("USR1")
        job.wait_for("requeued: goes on", 90)
        state = job.wait_for_end(400)
        assert (state, job.exit_status, job.restarts) == ("COMPLETED", 0, 1), job.log
    table = pd.read_csv(tmp_path / "runs" / "search" / "trials.csv")
    assert list(table["state"]) == ["done", "done"] and list(table["steps"]) == [24, 24]
