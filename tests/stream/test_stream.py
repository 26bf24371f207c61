from __future__ import annotations

import json
import math
import pickle
import random
import threading
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import pytest
import torch

from distmed.errors import UserError
from distmed.prepare.manifest import Manifest
from distmed.prepare.shards import read_cases_of
from distmed.recipe import Recipe
from distmed.stream import order
from distmed.stream.batch import MicroBatch, Step
from distmed.stream.layout import Layout
from distmed.stream.sequences import Sequences
from distmed.stream.stream import Stream, StreamPlan
from distmed.stream.windows import Windows

RecipeMaker = Callable[..., Recipe]
WORLDS = range(1, 9)


@pytest.fixture(autouse=True)
def small_windows(monkeypatch: pytest.MonkeyPatch) -> None:
    """Several windows an epoch, as a large data set has them."""
    monkeypatch.setattr(order, "WINDOW_ROWS", 45)


def bytes_of(steps: Iterable[Step]) -> list[bytes]:
    """All that a step says, tensors with their bytes."""
    return [repr([facts(vars(step)), *(facts(vars(batch)) for batch in step.micro_batches)]).encode() for step in steps]


def facts(values: dict[str, Any]) -> list[Any]:
    return [
        (name, value.shape, value.dtype, value.numpy().tobytes()) if isinstance(value, torch.Tensor) else (name, value)
        for name, value in values.items()
        if name != "micro_batches"
    ]


def real(batches: Iterable[MicroBatch]) -> list[MicroBatch]:
    return [batch for batch in batches if not batch.masked]


def case_ids(step: Step) -> list[str]:
    return [case for batch in real(step.micro_batches) for case in batch.case_ids]


def rows(step: Step) -> list[bytes]:
    """What each sequence of a worker holds, without the padding."""
    found = []
    for batch in real(step.micro_batches):
        for ids, segments in zip(batch.input_ids_BL, batch.segment_ids_BL, strict=True):
            found.append(ids[segments > 0].numpy().tobytes() + segments[segments > 0].numpy().tobytes())
    return found


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


def test_a_stand_in_can_be_run_and_weighs_nothing(
    recipe: RecipeMaker, plan_of: Callable[..., StreamPlan], tokenizer: Any
) -> None:
    for task in ("classify", "generate"):
        plan = plan_of(recipe(task, train={"global_batch": 5, "micro_batch": 1}))
        first = [next(Stream(plan, tokenizer, rank, 3).steps(0, prefetch=False)) for rank in range(3)]
        masked = [batch for step in first for batch in step.micro_batches if batch.masked]
        assert len(masked) == 1
        assert masked[0].case_weight_C.sum() == 0
        assert len(masked[0].case_ids) == len(masked[0].input_ids_BL) == 1
        assert masked[0].target_ids_T is None if task == "classify" else len(masked[0].target_ids_T) == 1


@pytest.mark.parametrize("weights", ["none", "balanced", "effective"])
def test_the_denominator_is_the_sum_of_weights_over_all_workers(
    recipe: RecipeMaker, plan_of: Callable[..., StreamPlan], tokenizer: Any, weights: str
) -> None:
    plan = plan_of(recipe(data={"class_weights": weights}))
    streams = [Stream(plan, tokenizer, rank, 3).steps(0, prefetch=False) for rank in range(3)]
    for steps in zip(*streams, strict=True):
        total = sum(batch.case_weight_C.double().sum().item() for step in steps for batch in real(step.micro_batches))
        assert [step.denominator for step in steps] == [pytest.approx(total, rel=1e-6)] * 3
        assert sum(len(case_ids(step)) for step in steps) == steps[0].cases


def test_the_denominator_is_the_number_of_targets_over_all_workers(
    recipe: RecipeMaker, plan_of: Callable[..., StreamPlan], tokenizer: Any
) -> None:
    longest = int(plan_of(recipe("generate")).table().counts(np.arange(400), 0).max())
    plan = plan_of(recipe("generate", data={"long_cases": "cut", "seq_len": longest - 2}))
    assert plan.cut > 0
    streams = [Stream(plan, tokenizer, rank, 3).steps(0, prefetch=False) for rank in range(3)]
    for steps in zip(*streams, strict=True):
        batches = [batch for step in steps for batch in real(step.micro_batches)]
        assert steps[0].denominator == sum(len(batch.target_ids_T) for batch in batches)
        assert steps[0].tokens == sum(int((batch.segment_ids_BL > 0).sum()) for batch in batches)


def test_targets_are_the_tokens_of_the_answer_and_its_end(
    recipe: RecipeMaker, plan_of: Callable[..., StreamPlan], tokenizer: Any
) -> None:
    plan = plan_of(recipe("generate"))
    answers = {case.id: case.label_name for manifest in plan.manifests for case in read_cases_of(manifest)}
    for step in list(Stream(plan, tokenizer, 0, 1).steps(0, prefetch=False))[:5]:
        for batch in step.micro_batches:
            flat_ids, flat_segments = batch.input_ids_BL.flatten(), batch.segment_ids_BL.flatten()
            assert torch.equal(flat_ids[batch.target_index_T + 1], batch.target_ids_T)
            assert torch.equal(flat_segments[batch.target_index_T + 1], flat_segments[batch.target_index_T])
            text = tokenizer.decode(batch.target_ids_T)
            assert text == "".join(f"{answers[case]}</s>" for case in batch.case_ids)


def test_tensors_of_a_packed_batch_say_where_each_case_lies(
    recipe: RecipeMaker, plan_of: Callable[..., StreamPlan], tokenizer: Any
) -> None:
    plan = plan_of(recipe())
    table = plan.table()
    for step in Stream(plan, tokenizer, 0, 1).steps(0, prefetch=False):
        for batch in real(step.micro_batches):
            length = batch.input_ids_BL.shape[1]
            assert length % 8 == 0 and length <= 128
            assert int((batch.segment_ids_BL > 0).sum(1).max()) > length - 8
            ids, positions = batch.input_ids_BL.flatten(), batch.position_ids_BL.flatten()
            numbers = batch.case_number_C.numpy()
            whole, sizes = table.tokens_of(numbers, 0, limit=1000, keep_last=True)
            cases = np.split(whole, np.cumsum(sizes)[:-1])
            for first, last, case in zip(batch.case_first_C, batch.case_last_C, cases, strict=True):
                assert ids[first : last + 1].tolist() == case.tolist()
                assert positions[first : last + 1].tolist() == list(range(len(case)))
            assert table.names(numbers) == batch.case_ids
            assert table.labels(numbers).tolist() == batch.case_label_C.tolist()


def test_unpacked_workers_run_rows_of_like_length_at_the_same_time(
    recipe: RecipeMaker, plan_of: Callable[..., StreamPlan], tokenizer: Any
) -> None:
    plan = plan_of(recipe(data={"packing": False}))
    streams = [Stream(plan, tokenizer, rank, 2).steps(0, prefetch=False) for rank in range(2)]
    spread = []
    for one, other in zip(*streams, strict=True):
        lengths = [b.input_ids_BL.shape[1] for step in (one, other) for b in real(step.micro_batches)]
        pairs = zip(real(one.micro_batches), real(other.micro_batches), strict=False)
        spread += [
            abs(a.input_ids_BL.shape[1] - b.input_ids_BL.shape[1]) / (max(lengths) - min(lengths) + 1) for a, b in pairs
        ]
    assert np.mean(spread) < 0.35


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


def test_an_error_while_prefetching_reaches_the_loop(
    recipe: RecipeMaker, stream_of: Callable[..., Stream], monkeypatch: pytest.MonkeyPatch
) -> None:
    stream = stream_of(recipe())
    made = stream._step

    def broken(k: int) -> Step:
        if k >= 24:
            raise OSError("the disk is gone")
        return made(k)

    monkeypatch.setattr(stream, "_step", broken)
    steps = stream.steps(0)
    assert [next(steps).k for _ in range(3)] == [0, 8, 16]
    with pytest.raises(OSError, match="the disk is gone"):
        next(steps)
    assert not prefetching()


def test_closing_ends_the_thread(recipe: RecipeMaker, stream_of: Callable[..., Stream]) -> None:
    stream = stream_of(recipe())
    steps = stream.steps(0)
    next(steps)
    assert prefetching()
    stream.close()
    assert not prefetching()
    stream.steps(0)  # never started
    stream.close()
    assert len(list(stream.steps(0))) > 10
    assert not prefetching()


def prefetching() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "stream-prefetch"]
