"""Who copies whom, what a copy changes, and the schedule that comes out, without training."""

from __future__ import annotations

import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from distmed.errors import UserError
from distmed.recipe_file import check
from distmed.train.changes import recipe_at, set_optimizer
from distmed.tune.copying import copy_checkpoint
from distmed.tune.population import Population, check_population
from distmed.tune.record import Record, Trial
from distmed.tune.space import Space
from distmed.tune.trial import Order
from tests.tune.simulated import LEAST, recipe_with

KNOBS = {"optimizer.lr": {"loguniform": [1e-5, 1e-2]}, "optimizer.weight_decay": {"uniform": [0.0, 0.1]}}


class Board:
    """A population of `scores`, each trial at step 10 of 100."""

    def __init__(self, folder: Path, scores: list[float], **tune: Any) -> None:
        recipe = recipe_with(space=KNOBS, scheduler="pbt", **tune)
        assert recipe.tune is not None
        self.record = Record(folder / "r.jsonl")
        self.paused: list[int] = []
        for number, score in enumerate(scores):
            setting = {"optimizer.lr": 10.0 ** -(2 + number % 3), "optimizer.weight_decay": 0.05}
            self.record.start(Trial(number, number, 0, setting))
            self.record.evaluated(number, 10, 0.1, score, {})
        self.population = Population(
            Space(recipe), recipe.tune, mode="max", seed=1, trials=self.record.trials, clone=self.clone
        )

    def clone(self, number: int, source: int, setting: dict[str, Any]) -> Order | None:
        self.record.cloned(number, source, 10, setting, f"checkpoints-of-{source}")
        return Order(number, number, 0, setting, 1, f"checkpoints-of-{source}")

    def look(self, number: int) -> tuple[str, Any]:
        value = self.record.trials[number].evaluations[-1].value
        trial = SimpleNamespace(trial_id=str(number), config={"trial": number, "generation": 0, "clone": None})
        trial.set_config = lambda config: setattr(trial, "config", config)
        controller: Any = SimpleNamespace(pause_trial=lambda trial, should_checkpoint: self.paused.append(number))
        result = {"value": value, "step": 10, "progress": 0.1}
        return self.population.on_trial_result(controller, trial, result), trial  # type: ignore[arg-type]


def test_the_worst_go_on_as_copies_of_the_best_and_the_others_as_themselves(tmp_path: Path) -> None:
    board = Board(tmp_path, [0.9, 0.5, 0.6, 0.1])
    assert [board.look(number)[0] for number in (0, 1, 2)] == ["CONTINUE"] * 3
    action, trial = board.look(3)
    assert (action, board.paused) == ("NOOP", [3])
    assert trial.config["clone"] == "checkpoints-of-0"
    assert trial.config["generation"] == 1
    assert trial.config["setting"] != board.record.trials[0].setting


def test_a_value_that_is_not_finite_is_the_worst_and_is_copied_by_nobody(tmp_path: Path) -> None:
    board = Board(tmp_path, [0.9, math.nan, 0.6, 0.1])
    assert [board.look(number)[0] for number in (0, 2)] == ["CONTINUE"] * 2
    action, trial = board.look(1)
    assert (action, trial.config["clone"]) == ("NOOP", "checkpoints-of-0")


def test_one_that_just_went_on_as_a_copy_is_copied_only_once_it_has_a_value_of_its_own(tmp_path: Path) -> None:
    board = Board(tmp_path, [0.9, 0.1, 0.2, 0.3])
    board.record.cloned(1, 0, 10, {"optimizer.lr": 1e-3, "optimizer.weight_decay": 0.05}, "of-0")
    assert board.look(2)[1].config["clone"] == "checkpoints-of-0"
    assert board.record.trials[1].best("max") is None


def test_a_population_of_one_copies_nobody(tmp_path: Path) -> None:
    assert Board(tmp_path, [0.5]).look(0)[0] == "CONTINUE"


def test_who_is_looked_at_every_second_evaluation_is_left_alone_at_the_first(tmp_path: Path) -> None:
    board = Board(tmp_path, [0.9, 0.1], exploit_every=2)
    assert board.look(1)[0] == "CONTINUE"
    assert board.look(1)[0] == "NOOP"


def test_a_changed_setting_stays_within_its_bounds(tmp_path: Path) -> None:
    board = Board(tmp_path, [0.5, 0.4])
    for _ in range(200):
        changed = board.population.changed({"optimizer.lr": 9e-3, "optimizer.weight_decay": 0.09})
        assert 1e-5 <= changed["optimizer.lr"] <= 1e-2
        assert 0.0 <= changed["optimizer.weight_decay"] <= 0.1


def test_a_number_that_the_recipe_leaves_null_is_drawn_when_a_copy_changes_it() -> None:
    recipe = recipe_with(space={"optimizer.head_lr": {"loguniform": [1e-4, 1e-1]}}, scheduler="pbt")
    assert recipe.tune is not None
    space = Space(recipe)
    assert space.untuned == {"optimizer.head_lr": None}
    population = Population(space, recipe.tune, mode="max", seed=1, trials={}, clone=lambda *_: None)
    drawn = [population.changed(space.untuned)["optimizer.head_lr"] for _ in range(50)]
    assert all(1e-4 <= value <= 1e-1 for value in drawn) and len(set(drawn)) > 1


def test_a_copy_of_a_copy_knows_its_whole_schedule(tmp_path: Path) -> None:
    record = Record(tmp_path / "r.jsonl")
    for number in range(3):
        record.start(Trial(number, number, 0, {"optimizer.lr": 10.0**-number}))
        record.evaluated(number, 10, 0.1, 0.1 * number, {})
    record.cloned(1, 0, 10, {"optimizer.lr": 0.8}, "of-0")
    record.evaluated(1, 20, 0.2, 0.7, {})
    record.cloned(2, 1, 20, {"optimizer.lr": 0.64}, "of-1")
    record.evaluated(2, 30, 0.3, 0.9, {})
    again = Record(tmp_path / "r.jsonl").trials[2]
    assert [(phase.step, phase.setting["optimizer.lr"]) for phase in again.phases] == [(0, 1.0), (10, 0.8), (20, 0.64)]
    assert [each.step for each in again.evaluations] == [10, 20, 30]
    assert [each.step for each in again.own_evaluations] == [30]
    assert (again.clones, again.copied) == (1, "of-1")


def test_a_key_that_cannot_change_in_a_run_is_refused() -> None:
    space = Space(recipe_with(space={"data.drop_findings": {"uniform": [0, 0.5]}}, scheduler="pbt"))
    with pytest.raises(UserError, match=r"pbt cannot change data\.drop_findings"):
        check_population(space)


def test_changes_hold_from_the_step_after_and_reach_every_group() -> None:
    recipe = check(
        {
            **LEAST,
            "optimizer": {"lr": 1e-3, "head_lr": 1e-2},
            "changes": [
                {"step": 10, "set": {"optimizer.lr": 1e-4, "train.label_smoothing": 0.1}},
                {"step": 20, "set": {"optimizer.weight_decay": 0.2, "optimizer.head_lr": 5e-3}},
            ],
        }
    )
    assert recipe_at(recipe, 10).optimizer.lr == 1e-3
    assert recipe_at(recipe, 11).optimizer.lr == 1e-4
    later = recipe_at(recipe, 21)
    assert (later.optimizer.lr, later.optimizer.weight_decay, later.train.label_smoothing) == (1e-4, 0.2, 0.1)
    groups = [{"name": name} for name in ("body", "body_no_decay", "head", "head_no_decay")]
    set_optimizer(groups, later)  # type: ignore[arg-type]
    assert [group["peak_lr"] for group in groups] == [1e-4, 1e-4, 5e-3, 5e-3]  # type: ignore[comparison-overlap]
    assert [group["weight_decay"] for group in groups] == [0.2, 0.0, 0.2, 0.0]  # type: ignore[comparison-overlap]


@pytest.mark.parametrize("change", [{"model.path": "x"}, {"optimizer.lr": -1}])
def test_a_change_that_cannot_be_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(UserError):
        check({**LEAST, "changes": [{"step": 1, "set": change}]})


def test_a_checkpoint_is_copied_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from distmed.tune import copying

    source = tmp_path / "a" / "step-00000010-world-1-attempt-0"
    source.mkdir(parents=True)
    (source / "rank-0.safetensors").write_bytes(b"weights")
    monkeypatch.setattr(copying, "CLONE_WAIT_S", 0)
    with pytest.raises(UserError, match="is not complete"):
        copy_checkpoint(str(source), str(tmp_path / "b"))
    assert not (tmp_path / "b").exists()
    monkeypatch.setattr(copying.folders, "why_incomplete", lambda folder: None)
    copied = Path(copy_checkpoint(str(source), str(tmp_path / "b")))
    assert copied == tmp_path / "b" / source.name
    assert (copied / "rank-0.safetensors").read_bytes() == b"weights"
