"""Whole searches as a user starts them: the built-in tiny model, a few steps, a process and a Ray of its own for each."""

from __future__ import annotations

import contextlib
import csv
import json
import os
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml

from distmed.recipe import load_recipe
from distmed.tune.record import Record
from tests.tune.conftest import SMALL, TuneDoor, changed

pytestmark = pytest.mark.slow
LIMIT_S = 500


def finished(process: subprocess.Popen[str], status: int = 0) -> str:
    output, _ = process.communicate(timeout=LIMIT_S)
    assert process.returncode == status, output
    return output


def table(run: Path) -> list[dict[str, str]]:
    with (run / "trials.csv").open() as file:
        return list(csv.DictReader(file))


def wait_for(run: Path, what: str, process: subprocess.Popen[str]) -> dict[str, Any]:
    """The first line of the record with this event."""
    deadline = time.monotonic() + LIMIT_S
    while time.monotonic() < deadline and process.poll() is None:
        if (run / "search.jsonl").exists():
            for line in (run / "search.jsonl").read_text().splitlines():
                if json.loads(line)["event"] == what:
                    return json.loads(line)
        time.sleep(0.2)
    raise AssertionError(f"no {what}: {process.communicate(timeout=10)[0] if process.poll() is not None else ''}")


def processes(folder: Path, name: str) -> list[psutil.Process]:
    """Those of this test's Ray whose title has `name`: they stay in the folder that the search was started in."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if name in " ".join(process.cmdline()) and Path(process.cwd()) == folder:
                found.append(process)
    return found


def test_a_search_leaves_a_recipe_a_model_a_table_and_a_report(door: TuneDoor) -> None:
    test = [{"source": "builtin:patients/eval", "limit": 40}]
    output = finished(door.start(changed(SMALL, data__test=test)))
    run = door.folder / "runs" / "small"
    trials = table(run)
    assert [trial["state"] for trial in trials] == ["done", "done"]
    assert [trial["steps"] for trial in trials] == ["4", "4"]
    assert float(trials[0]["optimizer.lr"]) == load_recipe(door.folder / "recipe.yaml").optimizer.lr
    best = load_recipe(run / "best.yaml")
    assert best.tune is None
    winner = max(trials, key=lambda trial: float(trial["metric"]))
    assert best.optimizer.lr == pytest.approx(float(winner["optimizer.lr"]))
    assert (run / "best" / "model.safetensors").is_file()
    report = (run / "report.html").read_text()
    assert report.count("<svg") >= 5 and "http://" not in report.split("<body>")[0]
    summary = json.loads((run / "summary.json").read_text())
    assert summary["test"][0]["winner"]["n"] == 40
    assert "best.yaml" in output


def test_a_killed_search_goes_on_and_its_table_is_whole(door: TuneDoor) -> None:
    run = door.folder / "runs" / "small"
    values = changed(SMALL, tune__concurrency=1)
    process = door.start(values, start_new_session=True)
    wait_for(run, "end", process)
    time.sleep(2)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    ended = {number: trial.evaluations for number, trial in Record(run / "search.jsonl").trials.items() if trial.ended}
    assert ended
    finished(door.start(values, "--resume"))
    trials = Record(run / "search.jsonl").trials
    assert [row["state"] for row in table(run)] == ["done", "done"]
    for number, evaluations in ended.items():
        assert trials[number].evaluations == evaluations
    starts = [json.loads(line) for line in (run / "search.jsonl").read_text().splitlines() if '"start"' in line]
    assert all(start["trial"] not in ended for start in starts[len(starts) // 2 + 1 :])


def test_a_signal_saves_what_runs_and_resume_goes_on_from_there(door: TuneDoor) -> None:
    run = door.folder / "runs" / "small"
    values = changed(SMALL, train__max_steps=60, train__eval_every=4, tune__trials=1)
    process = door.start(values)
    wait_for(run, "evaluation", process)
    process.send_signal(signal.SIGUSR1)
    finished(process, status=130)
    trial = Record(run / "search.jsonl").trials[0]
    assert trial.state == "waiting"
    assert 0 < trial.step < 60
    finished(door.start(values, "--resume"))
    steps = [json.loads(line)["step"] for line in (run / "trials" / "00000" / "metrics.jsonl").read_text().splitlines()]
    assert steps == sorted(set(steps)) and steps[-1] == 60


def test_a_trial_whose_loss_is_not_finite_fails_alone(door: TuneDoor) -> None:
    values = changed(SMALL, tune__space={"optimizer.lr": {"choice": [1e-3, 1e30]}}, tune__search="grid", tune__trials=3)
    finished(door.start(values))
    trials = table(door.folder / "runs" / "small")
    assert [trial["state"] for trial in trials][:1] == ["done"]
    failed = [trial for trial in trials if trial["state"] == "failed"]
    assert len(failed) == 1 and "not finite" in failed[0]["cause"]


def test_a_stopped_trial_gives_its_workers_to_the_next(door: TuneDoor) -> None:
    """With one place, the second trial can evaluate only on the place of the first, which would have had 2,000 steps."""
    values = changed(
        SMALL,
        train={**SMALL["train"], "max_steps": 2000, "eval_every": 2},
        optimizer={"lr": 1e-3},
        tune__metric="eval/loss",
        tune__scheduler="asha",
        tune__trials=4,
        tune__concurrency=2,
        tune__space={"optimizer.lr": {"choice": [1e-9, 1e-3]}},
        tune__initial=[{"optimizer.lr": 1e-9}] * 3,
        tune__reduction=2,
    )
    run = door.folder / "runs" / "small"
    process = door.start(values)
    end = wait_for(run, "end", process)
    assert end["state"] == "stopped"
    began = time.monotonic()
    while len(processes(door.folder, "ray::RayTrainWorker")) > 2 or Record(run / "search.jsonl").trials.keys() < {
        0,
        1,
        2,
    }:
        assert time.monotonic() - began < 60
        time.sleep(0.2)
    process.send_signal(signal.SIGINT)
    finished(process, status=130)
    assert not processes(door.folder, "ray::")


@pytest.mark.parametrize("who", ["ray::RayTrainWorker", "Trainable"])
def test_a_trial_goes_on_when_a_process_of_it_is_killed(door: TuneDoor, who: str) -> None:
    values = changed(SMALL, train__max_steps=40, tune__trials=1, checkpoint__every=4)
    run = door.folder / "runs" / "small"
    process = door.start(values)
    wait_for(run, "evaluation", process)
    for victim in processes(door.folder, who):
        victim.kill()
    finished(process)
    trial = table(run)[0]
    assert (trial["state"], trial["steps"]) == ("done", "40")
    assert trial["retries"] == ("0" if who == "ray::RayTrainWorker" else "1")
    steps = [json.loads(line)["step"] for line in (run / "trials" / "00000" / "metrics.jsonl").read_text().splitlines()]
    assert steps == sorted(set(steps)) and steps[-1] == 40


def test_a_budget_that_ends_before_the_first_evaluation_is_named(door: TuneDoor) -> None:
    output = finished(door.start(changed(SMALL, tune__time_s=1.0)), status=2)
    assert "tune.time_s=1 ended before the first evaluation" in output
    assert "lower train.eval_every" in output


def test_population_based_training_copies_state_and_its_schedule_replays(door: TuneDoor) -> None:
    space = {"optimizer.lr": {"choice": [1e-9, 1e-3]}}
    values = changed(
        SMALL,
        optimizer={"lr": 1e-3},
        train={**SMALL["train"], "max_steps": 12},
        tune={"scheduler": "pbt", "trials": 2, "metric": "eval/loss", "quantile": 0.5, "space": space},
    )
    finished(door.start(values))
    run = door.folder / "runs" / "small"
    trials = Record(run / "search.jsonl").trials
    copies = [trial for trial in trials.values() if len(trial.phases) > 1]
    assert copies
    assert all(trial.state == "done" for trial in trials.values())
    recipe = yaml.safe_load((run / "best.yaml").read_text())
    best = json.loads((run / "summary.json").read_text())["best"]
    assert len(recipe["changes"]) == len(trials[best["trials"][0]].phases) - 1
