"""The winner: what its recipe says, what it is compared with, and how often the test split is scored. Nothing trains."""

from __future__ import annotations

import io
import json
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from distmed.recipe_file import check, load_recipe
from distmed.rundir import RunDir
from distmed.train.progress import Progress
from distmed.tune import selection
from distmed.tune.display import Display
from distmed.tune.record import Record, Trial
from distmed.tune.selection import Chosen, ranking, recipe_of_winner
from distmed.tune.space import Space
from distmed.tune.trial import Order, Plan, trial_recipe
from tests.tune.simulated import LEAST, search_in

LR = "optimizer.lr"


def searching(folder: Path, settings: list[float]) -> Any:
    """A search whose trials have ended, the later the better."""
    data = {**LEAST["data"], "test": [{"source": "dev.jsonl"}]}
    recipe = check({**LEAST, "data": data, "tune": {"space": {LR: {"loguniform": [1e-6, 1e-2]}}}})
    record = Record(folder / "search.jsonl")
    for number, lr in enumerate(settings):
        record.start(Trial(number, number, 0, {LR: lr}))
        record.evaluated(number, 10, 0.5, 0.1 * number, {})
        record.evaluated(number, 20, 1.0, 0.1 * number + 0.05, {})
        record.ended(number, "done")
    run = RunDir(folder / "run")
    plan = SimpleNamespace(run=run, metric="diag/macro_f1", recipe=recipe)
    trials = list(record.trials.values())
    return SimpleNamespace(plan=plan, space=Space(recipe), record=record, trials=trials, mode="max", workers=1)


def chosen(of: Any, number: int) -> Chosen:
    trial = of.record.trials[number]
    run = RunDir(of.plan.run / "trials" / f"{number:05d}")
    return Chosen(trial, trial.best("max"), run, of.plan.recipe, "checkpoint")


class Scoring:
    """Stands for `distmed evaluate`, which scores in two parts: `interrupted_after` so many, it goes on with the others."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.scored: list[str] = []
        self.interrupted_after: int | None = None
        monkeypatch.setattr("distmed.evaluate.command.evaluate", self)
        monkeypatch.setattr("distmed.prepare.open.open_source", lambda source, cache: SimpleNamespace(folder=folder))
        monkeypatch.setattr(selection, "_chosen", lambda search, number: None)

    def __call__(self, request: Any) -> int:
        model, parts = Path(request.model).name, request.out / "parts"
        parts.mkdir(parents=True, exist_ok=True)
        for number in range(2):
            part = parts / f"{model}-{number}"
            if not part.exists():
                if self.interrupted_after == number:
                    return 130
                part.touch()
                self.scored.append(part.name)
        (request.out / "metrics.json").write_text(json.dumps({"macro_f1": {"value": 0.05 * len(self.scored)}}))
        if self.interrupted_after == 2:
            return 130
        shutil.rmtree(parts)
        return 0


@pytest.mark.parametrize("after", [0, 1, 2])
def test_an_interrupt_loses_neither_the_count_of_winners_nor_what_was_scored(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, after: int
) -> None:
    of, progress = searching(tmp_path, [1e-5, 1e-4, 1e-3]), Progress(io.StringIO(), live=False)
    job: Any = None
    scoring, out = Scoring(tmp_path, monkeypatch), of.plan.run / "test" / "0"
    for winner, times in ((1, 1), (2, 2)):
        scoring.interrupted_after = after
        for _ in range(2):
            with pytest.raises(KeyboardInterrupt):
                selection._test(of, chosen(of, winner), job, progress)
        assert selection.was_scored(out) == (after == 2 or winner == 2)
        scoring.interrupted_after = None
        assert selection._test(of, chosen(of, winner), job, progress)[0]["scored"] == times
    assert scoring.scored == ["00001-0", "00001-1", "00002-0", "00002-1"]
    assert json.loads((out / "winners.json").read_text()) == ["trial 1 step 20", "trial 2 step 20"]


def test_the_test_split_is_scored_once_and_again_only_for_another_winner_which_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    of = searching(tmp_path, [1e-5, 1e-4, 1e-3])
    scoring = Scoring(tmp_path, monkeypatch)
    said = io.StringIO()
    progress = Progress(said, live=False)
    job: Any = None
    first = selection._test(of, chosen(of, 1), job, progress)
    assert selection._test(of, chosen(of, 1), job, progress) == first
    assert (scoring.scored, first[0]["scored"]) == (["00001-0", "00001-1"], 1)
    assert "has been scored for" not in said.getvalue()
    other = selection._test(of, chosen(of, 2), job, progress)
    assert (scoring.scored[2:], other[0]["scored"]) == (["00002-0", "00002-1"], 2)
    assert other[0]["winner"]["value"] == pytest.approx(0.2)
    assert "the test split 0 has been scored for 2 winners" in said.getvalue()


def test_each_repeat_of_a_setting_has_a_seed_of_its_own_and_nothing_else(tmp_path: Path) -> None:
    of = searching(tmp_path, [1e-5])
    plan = Plan(of.plan.recipe, of.plan.run, "diag/macro_f1", 1, 1, {})
    first, third = (trial_recipe(plan, of.space, Order(repeat, 0, repeat, {LR: 1e-4})) for repeat in (0, 2))
    assert (third.train.seed - first.train.seed, third.optimizer.lr) == (2, 1e-4)
    same = {"name": first.name, "train": first.train}
    assert third.model_copy(update=same) == first


def test_a_recipe_that_went_on_as_a_copy_is_not_shown_as_untuned(tmp_path: Path) -> None:
    of = searching(tmp_path, [1e-5, 1e-4])
    untuned = selection._untuned(of, ranking(of.trials, mode="max", seeds=1))
    assert untuned is not None and untuned["value"] == pytest.approx(0.05)
    of.record.cloned(0, 1, 10, {LR: 5e-4}, "of-1")
    of.record.evaluated(0, 20, 1.0, 0.9, {})
    ranks = ranking(of.trials, mode="max", seeds=1)
    assert ranks[0].point == 0
    assert selection._untuned(of, ranks) is None


def test_the_recipe_of_a_copy_holds_its_schedule_and_can_be_loaded(tmp_path: Path) -> None:
    of = searching(tmp_path, [1e-5, 1e-4])
    of.record.cloned(0, 1, 10, {LR: 5e-4}, "of-1")
    of.record.evaluated(0, 20, 1.0, 0.9, {})
    path = tmp_path / "best.yaml"
    path.write_text(recipe_of_winner(of, ranking(of.trials, mode="max", seeds=1)[0]).to_yaml())
    best = load_recipe(path, [])
    assert (best.optimizer.lr, best.tune, best.checkpoint.best) == (1e-4, None, "diag/macro_f1")
    assert [(change.step, change.set) for change in best.changes] == [(10, {LR: 5e-4})]


def test_what_a_url_carries_beside_the_place_is_in_the_recipe_alone(tmp_path: Path) -> None:
    """Whoever gets the table, the report or the log of a search gets no key to its data."""
    key, places = "data.train.0.source", ["s3://KEY:SECRET@bucket/a", "https://host/b?signature=SECRET"]
    block = {"space": {key: {"choice": places}}, "search": "grid"}
    of = search_in(tmp_path, check({**LEAST, "tracking": {"wandb": "disabled"}, "tune": block}))
    said = io.StringIO()
    with Display(said, of, 90, live=False) as display:
        for number in range(of.proposals.wanted):
            of.propose(str(number))
            of.record.evaluated(number, 90, 1.0, 0.1 * number, {})
            of.ended(number, "done")
            of.released(str(number))
            display.show()
    selection.conclude(of, None, Progress(said, live=False))  # type: ignore[arg-type]
    run = of.plan.run
    shown = [(run / name).read_text() for name in ("trials.csv", "summary.json", "report.html")]
    for text in [*shown, said.getvalue()]:
        assert "SECRET" not in text and "https://host/b" in text
    assert load_recipe(run / "best.yaml", []).data.train[0].source == places[1]
