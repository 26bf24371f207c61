"""Advice: it fits, the cheapest comes first, and nothing superfluous is asked for."""

from __future__ import annotations

from collections.abc import Callable

from distmed.plan.changes import advise, changes_for
from distmed.plan.memory import memory_of
from distmed.plan.plan import judge
from distmed.plan.setup import Setup
from distmed.plan.shapes import Shape
from distmed.plan.speed import speed_of

Make = Callable[..., Shape]
MakeSetup = Callable[..., Setup]


def test_no_set_of_changes_holds_a_smaller_one_that_fits(shape: Make, setup: MakeSetup) -> None:
    model = shape(13 * 10**9, saved=8 * 10**9, peak=8 * 10**9)
    start = setup(4, stage=2, micro_batch=8)

    def fits(changed: Setup) -> bool:
        return judge(memory_of(model, changed), changed.machine) == "fits"

    assert not fits(start)
    found = advise(start, fits, lambda changed: 1 / speed_of(model, changed).tokens_per_s, most=100)
    assert found
    for advice in found:
        assert fits(advice.setup)
        others = [set(other.changes) for other in found if other is not advice]
        assert not any(other < set(advice.changes) for other in others)
    costs = [round(advice.cost, 2) for advice in found]
    assert costs == sorted(costs)


def test_what_is_there_already_is_not_advised(setup: MakeSetup) -> None:
    words = " ".join(change.text for change in changes_for(setup(checkpointing=True, offload_optimizer="nvme")))
    assert "activation_checkpointing" not in words
    assert "zero3" not in words
