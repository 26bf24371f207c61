"""The space of a search is held against the recipe's own types before anything starts."""

from __future__ import annotations

from typing import Any

import optuna
import pytest

from distmed.errors import UserError
from distmed.recipe import Recipe
from distmed.recipe_file import check
from distmed.tune.space import Space
from tests.tune.simulated import LEAST


def recipe(space: dict[str, Any], **tune: Any) -> Recipe:
    return check({**LEAST, "tune": {"space": space, **tune}})


def drawn(space: Space, seed: int = 1, count: int = 50) -> list[dict[str, Any]]:
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=seed))
    return [space.draw(study.ask()) for _ in range(count)]


@pytest.mark.parametrize(
    ("space", "message", "hint"),
    [
        ({"optimizer.lrr": {"uniform": [0, 1]}}, "unknown recipe key: optimizer.lrr", "did you mean `lr`?"),
        ({"optimzer.lr": {"uniform": [0.1, 1]}}, "unknown recipe key: optimzer", "did you mean `optimizer`?"),
        ({"optimizer.lr": {"uniform": [-1, 1]}}, "tune.space.optimizer.lr: -1.0 does not fit", "mend the knob"),
        ({"train.micro_batch": {"uniform": [1, 8]}}, "tune.space.train.micro_batch: 3.59 does not fit", "mend"),
        ({"train.micro_batch": {"randint": [0, 8]}}, "tune.space.train.micro_batch: 0 does not fit", "mend"),
        ({"train.loss": {"choice": ["cross_entropy", "focl"]}}, "tune.space.train.loss: 'focl' does not fit", "mend"),
        ({"optimizer.lr.peak": {"uniform": [0.1, 1]}}, "`lr` holds a value", "mend the knob"),
        ({"train.loss": {"choice": []}}, "tune.space.train.loss: nothing to choose from", "at least one value"),
        ({}, "tune.space names no key", "give it one"),
        ({"train.seed": {"randint": [1, 9]}}, "train.seed cannot vary", "take train.seed out"),
        ({"data.eval.0.limit": {"randint": [1, 9]}}, "data.eval.0.limit cannot vary", "take"),
        ({"cluster.num_workers": {"randint": [1, 2]}}, "cluster.num_workers cannot vary", "take"),
        (
            {"train.focal_gamma": {"uniform": [1, 2], "when": {"train.loss": "focal"}}},
            "train.loss is no knob of this search",
            "use one of",
        ),
    ],
)
def test_a_knob_without_a_place_is_named_with_its_mend(space: dict[str, Any], message: str, hint: str) -> None:
    with pytest.raises(UserError) as error:
        Space(recipe(space))
    assert message in error.value.message
    assert hint in error.value.hint
    assert "\n" not in error.value.message + error.value.hint


@pytest.mark.parametrize(
    "knob",
    [
        {"uniform": [1, 0]},
        {"loguniform": [0, 1]},
        {"uniform": [0, 1], "choice": [1]},
        {},
        {"randint": [1.5, 2]},
        {"uniform": [0]},
    ],
)
def test_a_knob_that_is_none_is_refused_by_the_recipe(knob: dict[str, Any]) -> None:
    with pytest.raises(UserError, match=r"tune\.space\.optimizer\.lr"):
        recipe({"optimizer.lr": knob})


def test_numbers_that_yaml_reads_as_text_become_numbers() -> None:
    space = Space(
        recipe({"optimizer.lr": {"choice": ["1e-5", "1e-4"]}, "optimizer.eps": {"loguniform": ["1e-9", 1e-7]}})
    )
    assert space.knobs["optimizer.lr"].choice == [1e-5, 1e-4]
    assert space.knobs["optimizer.eps"].loguniform == (1e-9, 1e-7)


def test_a_knob_varies_only_where_another_asks_for_it() -> None:
    space = Space(
        recipe(
            {
                "train.focal_gamma": {"uniform": [1, 4], "when": {"train.loss": "focal"}},
                "train.loss": {"choice": ["cross_entropy", "focal"]},
            }
        )
    )
    settings = drawn(space)
    assert {setting["train.loss"] for setting in settings} == {"cross_entropy", "focal"}
    for setting in settings:
        assert ("train.focal_gamma" in setting) == (setting["train.loss"] == "focal")
    assert space.untuned == {"train.loss": "cross_entropy"}


def test_knobs_that_wait_for_each_other_are_refused() -> None:
    circle = {
        "train.loss": {"choice": ["focal", "cross_entropy"], "when": {"optimizer.schedule": "linear"}},
        "optimizer.schedule": {"choice": ["linear", "cosine"], "when": {"train.loss": "focal"}},
    }
    with pytest.raises(UserError, match="wait for each other"):
        Space(recipe(circle))


def test_a_setting_makes_a_checked_recipe_without_a_search_in_it() -> None:
    space = Space(
        recipe({"optimizer.betas": {"choice": [[0.9, 0.99], [0.9, 0.999]]}, "model.lora.rank": {"randint": [4, 8]}})
    )
    for setting in drawn(space, count=5):
        made = space.recipe_of(setting)
        assert made.optimizer.betas in ((0.9, 0.99), (0.9, 0.999))
        assert made.model.lora is not None and 4 <= made.model.lora.rank <= 8
        assert made.tune is None
    assert {setting["model.lora.rank"] for setting in drawn(space)} == {4, 5, 6, 7, 8}


def test_a_grid_has_every_combination_once_and_none_of_what_is_not_active() -> None:
    space = Space(
        recipe(
            {
                "train.loss": {"choice": ["cross_entropy", "focal"]},
                "train.focal_gamma": {"choice": [1.0, 2.0], "when": {"train.loss": "focal"}},
                "train.micro_batch": {"randint": [1, 2]},
            }
        )
    )
    grid = space.grid()
    assert len(grid) == 6
    assert {"train.loss": "cross_entropy", "train.micro_batch": 2} in grid
    with pytest.raises(UserError, match=r"grid needs whole lists, tune\.space\.optimizer\.lr"):
        Space(recipe({"optimizer.lr": {"uniform": [0.1, 0.2]}})).grid()


def test_an_initial_setting_is_checked_as_a_recipe_and_completed() -> None:
    knobs = {"optimizer.lr": {"loguniform": [1e-6, 1e-2]}, "optimizer.warmup": {"uniform": [0, 0.3]}}
    space = Space(recipe(knobs, initial=[{"optimizer.lr": 1e-3}]))
    assert space.initial == [{"optimizer.lr": 1e-3, "optimizer.warmup": 0.05}]
    with pytest.raises(UserError, match=r"tune.initial: train.loss is no knob"):
        Space(recipe(knobs, initial=[{"train.loss": "focal"}]))
    with pytest.raises(UserError, match=r"tune.initial: optimizer.lr"):
        Space(recipe(knobs, initial=[{"optimizer.lr": -1}]))


def test_a_knob_below_a_section_that_the_recipe_leaves_out_is_no_part_of_the_recipe_itself() -> None:
    space = Space(recipe({"model.lora.rank": {"choice": [4, 8]}, "optimizer.warmup": {"uniform": [0, 0.2]}}))
    assert space.untuned == {"optimizer.warmup": 0.05}
    assert space.recipe_of(space.untuned).model.lora is None
