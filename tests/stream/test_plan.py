"""How long a run is: epochs, max_steps, and what is left of one that goes on."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from distmed.recipe import Recipe
from distmed.stream.stream import Stream, StreamPlan
from tests.stream.steps import bytes_of

RecipeMaker = Callable[..., Recipe]
pytestmark = pytest.mark.usefixtures("small_windows")


def test_steps_of_a_fraction_of_an_epoch_and_of_max_steps(
    recipe: RecipeMaker, plan_of: Callable[..., StreamPlan]
) -> None:
    whole = plan_of(recipe(train={"epochs": 1}))
    half = plan_of(recipe(train={"epochs": 1.5}))
    one, two = half.sequences_per_epoch(0), half.sequences_per_epoch(1)
    assert whole.total_sequences == one
    assert half.total_sequences == one + -(-two // 2)
    assert plan_of(recipe(train={"max_steps": 100})).total_sequences == 800


@pytest.mark.parametrize(
    ("train", "done", "sequences", "steps"),
    [
        # 400 cases an epoch; before: 8 in a step.
        ({"epochs": 2, "global_batch": 16}, (25, 200), 800, 25 + 38),
        ({"epochs": 2, "global_batch": 4}, (25, 200), 800, 25 + 150),
        ({"max_steps": 50, "global_batch": 4}, (25, 200), 300, 50),
        ({"max_steps": 50, "global_batch": 16}, (25, 200), 600, 50),
        ({"epochs": 2}, (51, 400), 800, 51 + 50),
        ({"max_steps": 20}, (25, 200), 200, 25),
    ],
)
def test_a_run_that_goes_on_with_another_batch_or_more_epochs_sees_what_is_left(
    recipe: RecipeMaker,
    plan_of: Callable[..., StreamPlan],
    train: dict[str, Any],
    done: tuple[int, int],
    sequences: int,
    steps: int,
) -> None:
    plan = plan_of(recipe(data={"packing": False}, train=train), done=done)
    assert (plan.total_sequences, plan.total_steps(*done)) == (sequences, steps)


@pytest.mark.parametrize("augmented", [False, True])
def test_max_steps_wraps_into_as_many_epochs_as_it_takes(
    recipe: RecipeMaker, stream_of: Callable[..., Stream], augmented: bool
) -> None:
    data = {"drop_findings": 0.2} if augmented else {}
    steps = list(stream_of(recipe(data=data, train={"epochs": 1, "max_steps": 90})).steps(0))
    assert len(steps) == 90
    assert steps[-1].epoch > 3
    assert all(step.next_k - step.k == 8 for step in steps)
    straight = list(stream_of(recipe(data=data, train={"epochs": 1})).steps(0))[:-1]
    assert bytes_of(steps[: len(straight)]) == bytes_of(straight)
