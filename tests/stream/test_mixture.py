from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from distmed.recipe import Recipe
from distmed.stream.mixture import Mixture, quotas
from distmed.stream.report import notes
from distmed.stream.sequences import Sequences
from distmed.stream.stream import Stream, StreamPlan

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("small_windows")]

RecipeMaker = Callable[..., Recipe]
PlanMaker = Callable[..., StreamPlan]

ROWS = {"a": range(37), "b": range(37, 287), "c": range(287, 400)}


def mixed(*weights: float, **data: Any) -> dict[str, Any]:
    return {"train": [{"source": str(w), "weight": w} for w in weights], **data}


def numbers_by_source(plan: StreamPlan) -> dict[str, Counter[int]]:
    found = [n for k in range(plan.total_sequences) for n in Sequences(plan, plan.table()).at(k).cases_N.tolist()]
    return {name: Counter(n for n in found if n in rows) for name, rows in ROWS.items()}


def test_quotas_are_exact_where_they_can_be() -> None:
    assert quotas([0.7, 0.2, 0.1]) == [7, 2, 1]
    assert quotas([1, 1]) == [1, 1]
    assert quotas([3, 1.5]) == [2, 1]
    thirds = quotas([1, math.pi, 1e-7])
    assert sum(thirds) <= 10_001 and thirds[2] == 1
    assert thirds[1] / thirds[0] == pytest.approx(math.pi, rel=1e-3)


def test_a_mixture_is_exact_in_every_period_and_close_in_every_batch() -> None:
    mixture = Mixture([7, 2, 1], seed=3)
    drawn = [mixture.at(k) for k in range(3000)]
    for first in range(0, 3000, 10):
        assert Counter(source for source, _ in drawn[first : first + 10]) == {0: 7, 1: 2, 2: 1}
    assert drawn[:10] != drawn[10:20]
    for source in range(3):
        of_source = [j for s, j in drawn if s == source]
        assert of_source == list(range(len(of_source)))
    shares = Mixture(quotas([0.313, 0.687]), seed=1)
    for first in range(0, 4000, 32):
        count = sum(shares.at(k)[0] == 0 for k in range(first, first + 32))
        assert abs(count - 0.313 * 32) < 3


def test_before_and_end_agree_with_the_draws() -> None:
    mixture = Mixture([5, 3, 1], seed=9)
    drawn = [mixture.at(k)[0] for k in range(200)]
    for k in range(200):
        assert mixture.before(k).tolist() == [drawn[:k].count(s) for s in range(3)]
    for source in range(3):
        for number in range(1, 15):
            k = mixture.end(source, number)
            assert mixture.before(k)[source] == number and drawn[k - 1] == source
    far = mixture.end(2, 10**15)
    assert mixture.before(far)[2] == 10**15


def test_sources_that_wrap_are_all_seen_at_least_as_often_as_asked(recipe: RecipeMaker, plan_of: PlanMaker) -> None:
    plan = plan_of(recipe(data=mixed(2, 1, 1), train={"epochs": 2}))
    seen = numbers_by_source(plan)
    for name, rows in ROWS.items():
        times = [seen[name][n] for n in rows]
        assert max(times) - min(times) <= 1  # each pass takes every case once
        assert min(times) >= 2
    epochs = plan.epochs_at(plan.total_sequences)
    assert min(epochs) == pytest.approx(2, abs=1e-9) == plan.epoch_at(plan.total_sequences)
    assert epochs[0] > 8


def test_a_source_that_stops_the_run_stops_it_when_it_ends(recipe: RecipeMaker, plan_of: PlanMaker) -> None:
    plan = plan_of(recipe(data=mixed(2, 1, 1, on_end="stop"), train={"epochs": 1}))
    seen = numbers_by_source(plan)
    assert all(seen["a"][n] == 1 for n in ROWS["a"])
    assert max(seen["b"].values()) == 1 and len(seen["b"]) < 250
    assert plan.epochs_at(plan.total_sequences)[0] == 1
    longer = plan_of(recipe(data=mixed(2, 1, 1, on_end="stop"), train={"epochs": 1, "max_steps": 1000}))
    assert longer.total_sequences == plan.total_sequences
    shorter = plan_of(recipe(data=mixed(2, 1, 1, on_end="stop"), train={"epochs": 1, "max_steps": 1}))
    assert shorter.total_sequences == 8 < plan.total_sequences


def test_without_weights_a_run_of_many_steps_stops_too_if_asked(recipe: RecipeMaker, plan_of: PlanMaker) -> None:
    train = {"epochs": 1, "max_steps": 1000}
    assert plan_of(recipe(train=train)).total_sequences == 8000
    stopped = plan_of(recipe(data={"on_end": "stop"}, train=train))
    assert stopped.total_sequences == stopped.sequences_per_epoch(0)
    assert stopped.total_steps() == -(-stopped.total_sequences // 8) < 1000


def test_shares_are_those_of_the_weights(recipe: RecipeMaker, plan_of: PlanMaker) -> None:
    plan = plan_of(recipe(data=mixed(0.5, 0.3, 0.2), train={"max_steps": 50}))
    assert plan.quotas == [5, 3, 2]
    sequences = [Sequences(plan, plan.table()).at(k) for k in range(plan.total_sequences)]
    source = np.array([int(s.cases_N[0] >= 37) + int(s.cases_N[0] >= 287) for s in sequences])
    assert np.bincount(source).tolist() == [200, 120, 80]


@pytest.mark.parametrize("augmented", [False, True])
def test_a_mixture_is_the_same_on_any_number_of_workers_and_after_any_stop(
    recipe: RecipeMaker, plan_of: PlanMaker, tokenizer: Any, augmented: bool
) -> None:
    extra = {"drop_findings": 0.2} if augmented else {}
    plan = plan_of(recipe(data=mixed(1, 2, 1, **extra), train={"epochs": 2}))

    def batches(world_size: int, k: int = 0) -> list[list[list[int]]]:
        streams = [Stream(plan, tokenizer, rank, world_size).steps(k, prefetch=False) for rank in range(world_size)]
        # Which worker has a sequence of the batch, and beside which, is all that their number may change.
        return [
            sorted(
                ids[segments > 0].tolist()
                for step in steps
                for batch in step.micro_batches
                if not batch.masked
                for ids, segments in zip(batch.input_ids_BL, batch.segment_ids_BL, strict=True)
            )
            for steps in zip(*streams, strict=True)
        ]

    straight = batches(1)
    for world_size in (2, 3, 5):
        assert batches(world_size) == straight
    for place in (1, len(straight) // 2, len(straight) - 1):
        assert batches(4, 8 * place) == straight[place:]


def test_a_run_says_how_often_each_source_is_passed(recipe: RecipeMaker, plan_of: PlanMaker) -> None:
    said = "; ".join(notes(plan_of(recipe(data=mixed(2, 1, 1), train={"epochs": 1}))))
    assert "data.train.0: 50.0% of the sequences" in said and "epochs in this run" in said
    assert "tokens/s" in said


def test_weights_are_part_of_the_position(recipe: RecipeMaker, plan_of: PlanMaker) -> None:
    one = plan_of(recipe(data=mixed(2, 1, 1))).identity
    other = plan_of(recipe(data=mixed(1, 1, 1))).identity
    assert {name for name in one if one[name] != other[name]} == {"data.weight"}
    assert plan_of(recipe()).identity["data.weight"] == "natural"
