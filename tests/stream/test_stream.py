from __future__ import annotations

import json
import math
import pickle
import random
from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from distmed.errors import UserError
from distmed.prepare.manifest import Manifest
from distmed.prepare.shards import read_cases_of
from distmed.recipe import Recipe
from distmed.stream.layout import Layout
from distmed.stream.sequences import Sequences
from distmed.stream.stream import Stream, StreamPlan
from distmed.stream.windows import Windows
from tests.stream.steps import bytes_of, case_ids, real, rows

RecipeMaker = Callable[..., Recipe]
WORLDS = range(1, 9)
pytestmark = pytest.mark.usefixtures("small_windows")


@pytest.mark.parametrize("world_size", WORLDS)
@pytest.mark.parametrize("packing", [True, False])
def test_each_case_comes_once_an_epoch_on_any_number_of_workers(
    recipe: RecipeMaker, plan_of: Callable[..., StreamPlan], tokenizer: Any, world_size: int, packing: bool
) -> None:
    plan = plan_of(recipe(data={"packing": packing}, train={"epochs": 1}))
    everyone = [case.id for manifest in plan.manifests for case in read_cases_of(manifest)]
    seen = Counter(
        case
        for rank in range(world_size)
        for step in Stream(plan, tokenizer, rank, world_size).steps(0, prefetch=False)
        for case in case_ids(step)
    )
    assert seen == Counter(everyone)


@pytest.mark.slow
@pytest.mark.parametrize("packing", [True, False])
@pytest.mark.parametrize("task", ["classify", "generate"])
def test_the_global_batches_are_the_same_for_any_number_of_workers(
    recipe: RecipeMaker, plan_of: Callable[..., StreamPlan], tokenizer: Any, packing: bool, task: str
) -> None:
    plan = plan_of(recipe(task, data={"packing": packing}, train={"epochs": 1.4}))

    def global_batches(world_size: int) -> list[tuple[Any, ...]]:
        streams = [Stream(plan, tokenizer, rank, world_size).steps(0, prefetch=False) for rank in range(world_size)]
        return [
            (sorted(row for step in steps for row in rows(step)), steps[0].denominator, steps[0].k, steps[0].next_k)
            for steps in zip(*streams, strict=True)
        ]

    alone = global_batches(1)
    assert len(alone) > 10
    for world_size in WORLDS:
        assert global_batches(world_size) == alone


def test_packed_sequences_are_cut_into_even_contiguous_runs(
    recipe: RecipeMaker, plan_of: Callable[..., StreamPlan], tokenizer: Any
) -> None:
    plan = plan_of(recipe())
    alone = next(Stream(plan, tokenizer, 0, 1).steps(0, prefetch=False))
    shares = [next(Stream(plan, tokenizer, rank, 3).steps(0, prefetch=False)) for rank in range(3)]
    assert [row for share in shares for row in rows(share)] == rows(alone)
    assert sorted(len(rows(share)) for share in shares) == [2, 3, 3]


@pytest.mark.slow
@pytest.mark.parametrize("prefetch", [True, False])
@pytest.mark.parametrize("task", ["classify", "generate"])
def test_resume_anywhere_gives_the_same_steps_to_the_byte(
    recipe: RecipeMaker, plan_of: Callable[..., StreamPlan], tokenizer: Any, prefetch: bool, task: str
) -> None:
    plan = plan_of(recipe(task, data={"drop_findings": 0.3, "shuffle_findings": True}))
    steps = list(Stream(plan, tokenizer, 1, 2).steps(0, prefetch=False))
    straight = bytes_of(steps)
    places = random.Random(5).sample(range(len(steps)), 12)
    assert any(steps[place].epoch > 1 for place in places)
    for place in places:
        stream = Stream(plan, tokenizer, 1, 2)
        state = json.loads(json.dumps(stream.state(steps[place].k)))
        stream.check(state)
        assert bytes_of(stream.steps(state["k"], prefetch=prefetch)) == straight[place:]


def test_another_process_would_make_the_same_plan(
    recipe: RecipeMaker, plan_of: Callable[..., StreamPlan], tokenizer: Any
) -> None:
    plan = plan_of(recipe())
    sent = pickle.loads(pickle.dumps(plan))
    assert bytes_of(Stream(sent, tokenizer, 0, 1).steps(0)) == bytes_of(
        Stream(plan_of(recipe()), tokenizer, 0, 1).steps(0)
    )


@pytest.mark.parametrize("world_size", WORLDS)
@pytest.mark.parametrize("packing", [True, False])
def test_every_worker_runs_equally_many_micro_batches(
    recipe: RecipeMaker, plan_of: Callable[..., StreamPlan], tokenizer: Any, world_size: int, packing: bool
) -> None:
    plan = plan_of(recipe(data={"packing": packing}))
    passes = math.ceil(math.ceil(8 / world_size) / 2)
    for rank in range(world_size):
        for step in Stream(plan, tokenizer, rank, world_size).steps(0, prefetch=False):
            assert len(step.micro_batches) == passes
            assert all(len(batch.input_ids_BL) <= 2 for batch in step.micro_batches)


def test_epochs_differ_and_seeds_differ(recipe: RecipeMaker, plan_of: Callable[..., StreamPlan]) -> None:
    def numbers(train: dict[str, Any]) -> tuple[list[int], list[int]]:
        plan = plan_of(recipe(train=train))
        sequences = [Sequences(plan, plan.table()).at(k) for k in range(plan.total_sequences)]
        first, second = ([n for s in sequences if s.epoch == epoch for n in s.cases_N.tolist()] for epoch in (0, 1))
        return first, second

    first, second = numbers({})
    assert first != second
    assert sorted(first) == sorted(second) == list(range(400))
    assert numbers({"seed": 4})[0] != first


def test_the_order_mixes_sources_and_lengths(recipe: RecipeMaker, stream_of: Callable[..., Stream]) -> None:
    steps = list(stream_of(recipe(train={"epochs": 1})).steps(0, prefetch=False))
    half = [case for step in steps[: len(steps) // 2] for case in case_ids(step)]
    assert {case[0] for case in half} == {"a", "b", "c"}
    sizes = [len(case_ids(step)) for step in steps[:-1]]
    first, second = np.mean(sizes[: len(sizes) // 2]), np.mean(sizes[len(sizes) // 2 :])
    assert abs(first - second) < 0.25 * first


def test_full_and_short_sequences_mix_within_a_window(recipe: RecipeMaker, plan_of: Callable[..., StreamPlan]) -> None:
    """Packing takes the longest cases first; training on them in that order would be a curriculum."""
    plan = plan_of(recipe())
    table = plan.table()
    trends = []
    windows, dealt = Windows(plan, table, plan.pools[0]), Layout(plan.pools[0].layouts[0]).dealt
    for v in range(len(dealt.windows_V1) - 1):
        cases_N, bounds_S1 = windows.packed(dealt.entries[slice(*dealt.windows_V1[v : v + 2])], 0, v)
        longest_S = np.maximum.reduceat(table.counts(cases_N, 0), bounds_S1[:-1])
        trends.append(np.corrcoef(longest_S, np.arange(len(longest_S)))[0, 1])
    assert abs(np.mean(trends)) < 0.4


def test_evaluation_takes_every_case_once_in_its_own_order(
    recipe: RecipeMaker, plan_of: Callable[..., StreamPlan], tokenizer: Any
) -> None:
    asked = recipe(data={"drop_findings": 0.5, "sampling": "balanced", "class_weights": "balanced", "packing": False})
    plan = plan_of(asked, train=False)
    assert plan.total_sequences == 400
    steps = list(Stream(plan, tokenizer, 0, 1).steps(0))
    numbers = [n for step in steps for batch in step.micro_batches for n in batch.case_number_C.tolist()]
    assert sorted(numbers) == list(range(400))
    assert all(sorted(numbers[8 * s : 8 * s + 8]) == list(range(8 * s, 8 * s + 8)) for s in range(50))
    assert all((batch.case_weight_C == 1).all() for step in steps for batch in step.micro_batches)


def test_dropped_findings_are_drawn_anew_each_epoch_and_counted_so(
    recipe: RecipeMaker, plan_of: Callable[..., StreamPlan], tokenizer: Any
) -> None:
    plan = plan_of(recipe(data={"drop_findings": 0.4}))
    table, everyone = plan.table(), np.arange(400)
    first, second = table.counts(everyone, 0), table.counts(everyone, 1)
    assert (first != second).mean() > 0.3
    whole = plan_of(recipe()).table().counts(everyone, 0)
    assert (first <= whole).all() and first.sum() < whole.sum()
    for step in Stream(plan, tokenizer, 0, 1).steps(0, prefetch=False):
        assert step.tokens == sum(int((batch.segment_ids_BL > 0).sum()) for batch in real(step.micro_batches))


def test_state_is_small_and_knows_its_stream(
    recipe: RecipeMaker, stream_of: Callable[..., Stream], sources: list[Manifest], tokenizer: Any
) -> None:
    state = stream_of(recipe()).state(10**12)
    assert len(json.dumps(state)) < 1024
    stream_of(recipe(train={"global_batch": 4, "micro_batch": 1, "epochs": 9}), 1, 2).check(state)

    def complaint(*args: Any, **options: Any) -> str:
        with pytest.raises(UserError) as raised:
            stream_of(*args, **options).check(state)
        assert "\n" not in raised.value.message
        return raised.value.message

    assert "train.seed (was 3, now 4)" in complaint(recipe(train={"seed": 4}))
    assert "data.seq_len (was 128, now 136)" in complaint(recipe(data={"seq_len": 136}))
    assert "data.packing" in complaint(recipe(data={"packing": False}))
    assert "data.sampling" in complaint(recipe(data={"sampling": "balanced"}))
    assert "data manifest" in complaint(recipe(), manifests=sources[:2])
    assert "prompt" in complaint(recipe(data={"drop_findings": 0.1}))
    assert "prompt" in complaint(recipe(data={"excluded_findings": False}))
    other = pickle.loads(pickle.dumps(tokenizer))
    other.add_tokens(["severe pain"])
    assert "tokenizer" in complaint(recipe(), tokenizer=other)
