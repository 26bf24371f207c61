"""A search on W&B, offline: one group, a run a trial, a table that names no case."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from distmed.rundir import RunDir
from distmed.tune.record import Record, Trial
from distmed.tune.space import Space
from distmed.tune.tracking import track
from distmed.tune.trial import Order, Plan, trial_recipe
from tests.train.test_tracking import records
from tests.tune.simulated import recipe_with

LR = "optimizer.lr"
CAUSE = "the loss of step 3 is not finite; cases in it: patient-271828"


@pytest.fixture
def search(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Two trials that have ended; why the second failed names a case."""
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_DATA_DIR", str(tmp_path / "wandb-data"))
    recipe = recipe_with(space={LR: {"loguniform": [1e-6, 1e-2]}})
    record = Record(tmp_path / "search.jsonl")
    for number in (0, 1):
        record.start(Trial(number, number, 0, {LR: 10.0 ** -(3 + number)}))
    record.evaluated(0, 10, 1.0, 0.5, {})
    record.ended(0, "done")
    record.ended(1, "failed", CAUSE)
    plan = Plan(recipe, RunDir(tmp_path / "small"), "diag/macro_f1", 1, 1, {})
    return SimpleNamespace(plan=plan, space=Space(recipe), trials=list(record.trials.values()), mode="max")


@pytest.mark.slow
def test_the_run_of_the_search_holds_the_table_without_causes_in_the_group_of_its_trials(search: Any) -> None:
    track(search, {"best": {"value": 0.5}, "accelerator_hours": 0.25})
    run = search.plan.run
    found = records(run)
    assert {record.run.run_group for record in found if record.HasField("run")} == {"small"}
    summary = {item.key or ".".join(item.nested_key): item.value_json for r in found for item in r.summary.update}
    assert (json.loads(summary["best"]), json.loads(summary["accelerator_hours"])) == (0.5, 0.25)
    tables = [json.loads(path.read_text()) for path in run.path.parent.rglob("*.table.json")]
    assert tables and all(
        len(table["data"]) == 2 and {"state", "metric", LR} <= set(table["columns"]) for table in tables
    )
    for path in run.path.parent.rglob("*"):
        assert path.name == "search.jsonl" or not path.is_file() or b"patient-271828" not in path.read_bytes(), path


@pytest.mark.slow
def test_each_trial_is_a_run_of_that_group_with_a_name_of_its_own(search: Any) -> None:
    of_trials = [trial_recipe(search.plan, search.space, Order(number, number, 0, {LR: 1e-4})) for number in (0, 1)]
    assert [(each.tracking.group, each.name) for each in of_trials] == [
        ("small", "small-00000"),
        ("small", "small-00001"),
    ]
