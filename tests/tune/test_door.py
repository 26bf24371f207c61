"""Whole searches as a user starts them: the built-in tiny model, a few steps, a process and a Ray of its own for each."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from distmed.recipe import load_recipe
from distmed.tune.record import Record
from tests.tune.conftest import SMALL, TuneDoor, changed
from tests.tune.watching import finished, table

pytestmark = [pytest.mark.slow, pytest.mark.timeout(2000)]


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
    # One of the 40 has a diagnosis that none of the 100 training cases has; it is counted apart.
    assert summary["test"][0]["winner"]["n"] == 39
    assert "best.yaml" in output
    assert not (run / "lock.json").exists() and not (run / "ray").exists()


def test_a_trial_whose_loss_is_not_finite_fails_alone(door: TuneDoor) -> None:
    values = changed(SMALL, tune__space={"optimizer.lr": {"choice": [1e-3, 1e30]}}, tune__search="grid", tune__trials=3)
    finished(door.start(values))
    trials = table(door.folder / "runs" / "small")
    assert [trial["state"] for trial in trials][:1] == ["done"]
    failed = [trial for trial in trials if trial["state"] == "failed"]
    assert len(failed) == 1 and "not finite" in failed[0]["cause"]


def test_a_metric_that_no_evaluation_gives_is_named_with_those_that_are(door: TuneDoor) -> None:
    output = finished(door.start(changed(SMALL, tune__metric="diag/top1/sex=other")), status=2)
    assert "the evaluation gave no diag/top1/sex=other" in output
    assert "use one of" in output and "diag/macro_f1" in output


def test_a_budget_that_ends_before_the_first_evaluation_is_named(door: TuneDoor) -> None:
    output = finished(door.start(changed(SMALL, tune__time_s=1.0)), status=2)
    assert "tune.time_s=1 ended before the first evaluation" in output
    assert "lower train.eval_every" in output


def test_population_based_training_copies_state_and_its_schedule_replays(door: TuneDoor) -> None:
    """Both begin with a rate at which nothing is learned, and any copy gets one that learns: so the winner is a copy."""
    values = changed(
        SMALL,
        optimizer={"lr": 1e-9},
        train={**SMALL["train"], "max_steps": 24},
        tune={
            "scheduler": "pbt",
            "trials": 2,
            "metric": "eval/loss",
            "quantile": 0.5,
            "space": {"optimizer.lr": {"choice": [1e-3, 1e-9, 2e-3]}},
            "initial": [{"optimizer.lr": 1e-9}],
        },
    )
    finished(door.start(values))
    run = door.folder / "runs" / "small"
    trials = Record(run / "search.jsonl").trials
    assert all((trial.state, trial.step) == ("done", 24) for trial in trials.values())
    best = json.loads((run / "summary.json").read_text())["best"]
    winner = trials[best["trials"][0]]
    assert len(winner.phases) > 1
    assert len(yaml.safe_load((run / "best.yaml").read_text())["changes"]) == len(winner.phases) - 1

    finished(door.process("train", str(run / "best.yaml"), "--name", "replayed"))
    replayed = evaluations(door.folder / "runs" / "replayed")
    # Those before the last copy were made by other trials: the record tells them as the winner's history.
    assert [(each.step, each.value) for each in winner.evaluations] == replayed
    assert replayed[0][1] > best["value"] + 0.01


def evaluations(run: Path) -> list[tuple[int, float]]:
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [(line["step"], line["eval/loss"]) for line in lines if "eval/loss" in line]
