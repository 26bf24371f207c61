"""When a run evaluates, saves and ends."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from distmed.train.due import Due
from distmed.train.state import RunState


def due(state: RunState, **changes: Any) -> Due:
    """Of a run of 10 steps, evaluated every 4 and saved every 3, over 80 sequences."""
    facts = {"total_steps": 10, "eval_every": 4, "checkpoint_every": 3, "eval_plan": object(), **changes}
    return Due(SimpleNamespace(**facts), state, 80)  # type: ignore[arg-type]


def test_evaluations_and_checkpoints_come_at_their_steps() -> None:
    state = RunState()
    at: Any = due(state)
    evaluated, saved = [], []
    while not at.end():
        state.step += 1
        state.k += 8
        if at.evaluation():
            evaluated.append(state.step)
            state.evaluated = state.step
            assert not at.evaluation(), "it was just made"
        if at.checkpoint():
            saved.append(state.step)
    assert (evaluated, saved) == ([4, 8, 10], [3, 6, 9])


@pytest.mark.parametrize(("step", "k", "ends"), [(9, 72, False), (10, 72, True), (9, 80, True)])
def test_a_run_ends_after_its_steps_or_with_its_cases(step: int, k: int, ends: bool) -> None:
    assert due(RunState(step=step, k=k)).end() == ends


def test_nothing_is_evaluated_before_the_first_step_or_without_eval_cases() -> None:
    assert not due(RunState()).evaluation()
    assert not due(RunState(step=4), eval_plan=None).evaluation()


def test_an_evaluation_that_a_stop_left_out_is_still_due() -> None:
    assert due(RunState(step=4, evaluated=0)).evaluation()
    assert not due(RunState(step=4, evaluated=4)).evaluation()
