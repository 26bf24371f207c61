"""Tensors of a step: stand-ins, denominators, targets, where each case lies."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from distmed.prepare.shards import read_cases_of
from distmed.recipe import Recipe
from distmed.stream.stream import Stream, StreamPlan
from tests.stream.steps import case_ids, real

RecipeMaker = Callable[..., Recipe]
pytestmark = pytest.mark.usefixtures("small_windows")


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
