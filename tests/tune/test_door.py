"""Whole searches as a user starts them: the built-in tiny model, a few steps, one Ray for all."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from distmed.cli import main
from distmed.recipe_file import load_recipe
from distmed.tune.record import Record
from tests.tune.conftest import GRID, LR, RATES, SMALL, Searched, TuneDoor, changed
from tests.tune.watching import events, table

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("ray_address")]


def test_a_search_leaves_a_recipe_a_model_a_table_and_a_report(searched: Searched) -> None:
    run = searched.run
    trials = table(run)
    assert [float(trial[LR]) for trial in trials] == RATES
    best = load_recipe(run / "best.yaml")
    assert (best.tune, best.optimizer.lr) == (None, 1e-3)
    assert (run / "best" / "model.safetensors").is_file()
    report = (run / "report.html").read_text()
    assert report.count("<svg") >= 5 and "http://" not in report.split("<body>")[0]
    assert "best.yaml" in searched.output
    assert not (run / "lock.json").exists() and not (run / "ray").exists()


def test_the_winner_is_scored_once_on_the_test_split_next_to_the_recipe_as_it_was(searched: Searched) -> None:
    summary = json.loads((searched.run / "summary.json").read_text())
    (test,) = summary["test"]
    # One of the 40 has a diagnosis that none of the 100 training cases has; it is counted apart.
    assert (test["metric"], test["scored"], test["winner"]["n"]) == ("nll", 1, 39)
    change = test["against_untuned"]["difference"]
    assert change["low"] <= change["value"] <= change["high"] and change["value"] < 0
    assert summary["untuned"]["value"] > summary["best"]["value"]


def test_a_trial_whose_loss_is_not_finite_fails_alone(searched: Searched) -> None:
    trials = table(searched.run)
    assert [trial["state"] for trial in trials] == ["done", "done", "failed"]
    assert [trial["steps"] for trial in trials if trial["state"] == "done"] == ["24"] * 2
    assert "not finite" in trials[2]["cause"]


def test_all_trials_see_the_same_cases_in_the_same_order_read_and_counted_once(searched: Searched) -> None:
    times = [event["time"] for event in events(searched.run)]
    made = [
        path.stat().st_mtime for path in (searched.run / "data").rglob("*") if path.is_file() and path.name != ".lock"
    ]
    # Those of the test split come last.
    assert made and not [time for time in made if times[0] <= time <= times[-1]]
    assert not list(searched.run.glob("trials/*/data"))
    first, second = (logged(searched.run / "trials" / name) for name in ("00000", "00001"))
    assert [line["train/tokens"] for line in first] == [line["train/tokens"] for line in second]
    # Before the first step both are the same model.
    assert first[0]["train/loss"] == second[0]["train/loss"]


def test_a_metric_that_no_evaluation_gives_is_named_with_those_that_are(door: TuneDoor) -> None:
    assert door.status(changed(SMALL, tune__metric="diag/top1/sex=other", tune__concurrency=1)) == 2
    said = door.said()
    assert "the evaluation gave no diag/top1/sex=other" in said
    assert "use one of" in said and "diag/macro_f1" in said


def test_a_budget_that_ends_before_the_first_evaluation_is_named(door: TuneDoor) -> None:
    assert door.status(changed(SMALL, tune__time_s=1.0, tune__concurrency=1)) == 2
    said = door.said()
    assert "tune.time_s=1 ended before the first evaluation" in said
    assert "lower train.eval_every" in said


def test_population_based_training_copies_state_and_its_schedule_replays(door: TuneDoor) -> None:
    """Both begin with a rate at which nothing is learned, and any copy gets one that learns: so the winner is a copy."""
    values = changed(
        GRID,
        train__max_steps=60,
        tune={
            "scheduler": "pbt",
            "trials": 2,
            "concurrency": 2,
            "metric": "eval/loss",
            "quantile": 0.5,
            "exploit_every": 5,
            "space": {LR: {"choice": [1e-3, 1e-9, 2e-3]}},
            "initial": [{LR: 1e-9}],
        },
    )
    assert door.status(values) == 0
    run = door.folder / "runs" / "small"
    trials = Record(run / "search.jsonl").trials
    assert all((trial.state, trial.step) == ("done", 60) for trial in trials.values())
    best = json.loads((run / "summary.json").read_text())["best"]
    winner = trials[best["trials"][0]]
    assert len(winner.phases) > 1
    assert len(yaml.safe_load((run / "best.yaml").read_text())["changes"]) == len(winner.phases) - 1

    with pytest.raises(SystemExit) as ended:
        main(["train", str(run / "best.yaml"), "--name", "replayed"])
    assert ended.value.code == 0
    replayed = evaluations(door.folder / "runs" / "replayed")
    # Those before the last copy were made by other trials: the record tells them as the winner's history.
    assert [(each.step, each.value) for each in winner.evaluations] == replayed
    assert replayed[0][1] > best["value"] + 0.01


def logged(run: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def evaluations(run: Path) -> list[tuple[int, float]]:
    return [(line["step"], line["eval/loss"]) for line in logged(run) if "eval/loss" in line]
