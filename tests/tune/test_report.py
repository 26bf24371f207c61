"""The report and the table of a simulated search."""

from __future__ import annotations

import io
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pandas as pd
import pytest

from distmed.recipe_file import check
from distmed.rundir import RunDir
from distmed.train.progress import Progress
from distmed.tune.importance import importance
from distmed.tune.report import write_report
from distmed.tune.selection import _tell, ranking
from distmed.tune.space import Space
from distmed.tune.table import rows, write_tables
from tests.evaluate.report.browser import Page, find, in_browser
from tests.evaluate.report.test_browser import FAULTS
from tests.tune.simulated import LEAST, SPACE, recipe_with, search, search_in


def searched(folder: Path, trials: int = 25, **tune: Any) -> Any:
    """What the report reads of a search."""
    recipe = recipe_with(trials=trials, **tune)
    found = search(recipe, folder, seed=1)
    run = RunDir(folder / "run")
    run.path.mkdir()
    in_order = [found.record.trials[number] for number in sorted(found.record.trials)]
    plan = SimpleNamespace(run=run, metric="diag/macro_f1", recipe=recipe)
    return SimpleNamespace(trials=in_order, mode="max", plan=plan, space=Space(recipe), seed=1, tune=recipe.tune)


def summary(of: Any) -> dict[str, Any]:
    ranks = ranking(of.trials, mode="max", seeds=1)
    best = {"value": ranks[0].mean, "sd": None, "trials": ranks[0].trials, "setting": ranks[0].setting}
    test = {
        "source": "dev <b>.jsonl",
        "metric": "macro_f1",
        "winner": {"value": 0.6, "low": 0.5, "high": 0.7},
        "scored": 1,
        "against_untuned": {"this": 0.6, "other": 0.55, "difference": {"value": 0.05, "low": 0.01, "high": 0.09}},
    }
    counts = {state: sum(trial.state == state for trial in of.trials) for state in ("done", "stopped", "failed")}
    return {
        "best": best,
        "untuned": {"value": 0.4},
        "trials": counts,
        "accelerator_hours": 1.5,
        "ended_by": None,
        "test": [test],
    }


def test_the_report_shows_every_trial_and_asks_the_network_for_nothing(tmp_path: Path) -> None:
    of = searched(tmp_path)
    page = write_report(of, summary(of)).read_text()
    assert page.count("<svg") == 6
    assert page.count('<tr class="done">') + page.count('<tr class="stopped">') == 25
    assert not re.findall(r'(?:src|href)="(?!#)', page.replace('xlink:href="#', ""))
    assert "dev &lt;b&gt;.jsonl" in page
    assert "0.5000 … 0.7000" in page and "<td>0.55</td>" in page and "Scored once" in page


def test_a_number_that_the_recipe_leaves_null_is_a_gap_in_the_pictures(tmp_path: Path) -> None:
    of = searched(tmp_path, trials=8, space={**SPACE, "model.dropout": {"uniform": [0.0, 0.3]}})
    assert of.trials[0].setting["model.dropout"] is None
    page = write_report(of, summary(of)).read_text()
    assert page.count("<svg") == 6 and "broken where a knob was not active, or null" in page


@pytest.mark.slow
@pytest.mark.skipif(find() is None, reason="no Chromium here")
def test_the_report_fits_a_desk_and_a_phone(tmp_path: Path) -> None:
    of = searched(tmp_path)
    path = write_report(of, summary(of))

    async def look(tab: Page) -> Any:
        found = {}
        for width in (1280, 390):
            await tab.open(path, width)
            found[await tab.run("document.documentElement.clientWidth")] = await tab.run(FAULTS)
        assert (tab.errors, set(tab.requests)) == ([], {path.as_uri()})
        return found

    assert in_browser(look) == {1280: [], 390: []}


def test_the_learning_rate_is_found_to_matter_most(tmp_path: Path) -> None:
    of = searched(tmp_path, trials=40, search="random", scheduler="none")
    shares = importance(of.space, of.trials, mode="max", seed=1)
    assert next(iter(shares)) == "optimizer.lr"
    assert sum(shares.values()) == pytest.approx(1.0)


def test_too_few_trials_say_nothing_about_importance(tmp_path: Path) -> None:
    of = searched(tmp_path, trials=2)
    assert importance(of.space, of.trials, mode="max", seed=1) == {}
    assert "Too few settings" in write_report(of, summary(of)).read_text()


def test_both_tables_hold_a_row_a_trial(tmp_path: Path) -> None:
    of = searched(tmp_path, trials=6)
    write_tables(of)
    csv, parquet = pd.read_csv(of.plan.run / "trials.csv"), pd.read_parquet(of.plan.run / "trials.parquet")
    assert list(csv.columns) == list(parquet.columns)
    assert list(csv["trial"]) == list(parquet["trial"]) == list(range(6))
    assert {"state", "metric", "steps", "seconds", "optimizer.lr"} <= set(csv.columns)


def test_choices_of_several_types_make_a_table(tmp_path: Path) -> None:
    space = {
        "optimizer.max_grad_norm": {"choice": [None, 1.0]},
        "model.lora": {"choice": [None, {"rank": 4, "alpha": 8, "dropout": 0.0, "targets": "all-linear"}]},
        "optimizer.warmup": {"choice": [0.05, 10]},
    }
    of = searched(tmp_path, trials=8, space=space)
    write_tables(of)
    assert len(pd.read_parquet(of.plan.run / "trials.parquet")) == 8


@pytest.mark.parametrize(
    ("key", "choices", "own", "written"),
    [
        ("train.activation_checkpointing", [False, "offload"], True, ["false", "offload", "true"]),
        ("optimizer.warmup", [0.05, 10], 0.05, [0.05, 10.0]),
    ],
)
def test_a_knob_of_several_types_is_a_column_of_text(
    tmp_path: Path, key: str, choices: list[Any], own: Any, written: list[Any]
) -> None:
    import wandb

    section, name = key.split(".")
    base = {**LEAST, section: {**LEAST.get(section, {}), name: own}}
    of = search_in(tmp_path, check({**base, "tune": {"space": {key: {"choice": choices}}, "search": "grid"}}))
    for number in range(of.proposals.wanted):
        assert isinstance(of.propose(str(number)), dict)
        of.ended(number, "done")
        of.released(str(number))
    found = pd.read_parquet(of.plan.run / "trials.parquet")[key]
    assert sorted(found) == written
    table = [list(row.values()) for row in rows(of)]
    assert len(wandb.Table(columns=list(rows(of)[0]), data=table).data) == len(written)


@pytest.mark.parametrize("ends", [{"low": None, "high": None}, {"low": 0.2, "high": 0.3}])
def test_a_test_split_of_one_group_has_no_interval(tmp_path: Path, ends: dict[str, Any]) -> None:
    of = searched(tmp_path)
    told = summary(of)
    told["test"][0]["winner"] = {"value": 0.25, **ends}
    told["test"][0]["against_untuned"] = {"other": 0.125, "difference": {"value": 0.125, **ends}}
    page, said = write_report(of, told).read_text(), io.StringIO()
    ranks = ranking(of.trials, mode="max", seeds=1)
    _tell(of, ranks, told, tmp_path / "report.html", Progress(said, live=False))
    assert "+0.1250" in page and "test macro_f1 0.2500" in said.getvalue()
    shown = ends["low"] is not None
    assert ("0.2000 … 0.3000" in page and "(+0.2000 … +0.3000)" in page) == shown
    assert ("[0.2000, 0.3000]" in said.getvalue() and "[+0.2000, +0.3000]" in said.getvalue()) == shown
    assert "None" not in said.getvalue()
