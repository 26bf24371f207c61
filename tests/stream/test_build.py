from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

from distmed.cases.case import Case
from distmed.prepare.shards import write_shards
from distmed.recipe import Recipe
from distmed.stream.build import MAX_LABELS, label_index
from distmed.stream.report import notes
from distmed.stream.stream import Stream, StreamPlan
from tests.stream.conftest import complaint, patients

RecipeMaker = Callable[..., Recipe]
PlanMaker = Callable[..., StreamPlan]


def test_labels_are_those_of_training_in_the_order_of_their_keys(tmp_path: Path) -> None:
    one = write_shards(patients(60, classes=3), tmp_path / "one", format="columns")
    other = write_shards(patients(60, classes=5), tmp_path / "other", format="columns")
    labels, names = label_index([other, one])
    assert labels == ["D0", "D1", "D2", "D3", "D4"]
    assert names == [f"disease {n}" for n in range(5)]


def test_the_fill_rate_is_the_share_of_tokens_in_full_sequences(
    recipe: RecipeMaker, plan_of: PlanMaker, tokenizer: Any
) -> None:
    plan = plan_of(recipe(train={"epochs": 1}))
    steps = list(Stream(plan, tokenizer, 0, 1).steps(0))
    tokens = sum(step.tokens for step in steps)
    assert (plan.cases, plan.tokens) == (400, tokens)
    assert plan.fill_rate == pytest.approx(tokens / (128 * steps[-1].next_k))
    assert plan.fill_rate > 0.95


def test_phenopackets_fill_their_sequences(
    recipe: RecipeMaker, plan_of: PlanMaker, tokenizer: Any, shared_data: Path, tmp_path: Path
) -> None:
    from distmed.prepare.open import open_source

    source = {"source": str(shared_data / "phenopackets" / "train.jsonl"), "format": "phenopackets", "limit": 1500}
    asked = recipe(data={"train": [source], "seq_len": 1024, "long_cases": "drop"}, train={"epochs": 1})
    manifest = open_source(asked.data.train[0], tmp_path)
    index = {label: place for place, label in enumerate(manifest.labels)}
    plan = plan_of(asked, manifests=[manifest], label_index=index, cache=tmp_path)
    assert plan.cases + plan.dropped == 1500
    assert plan.fill_rate > 0.95


class Long(NamedTuple):
    plan: PlanMaker
    seq_len: int
    above: int


@pytest.fixture
def long(recipe: RecipeMaker, plan_of: PlanMaker) -> Long:
    """A sequence length that a quarter of the cases exceed."""
    count_N = plan_of(recipe()).table().counts(np.arange(400), 0)
    seq_len = int(np.quantile(count_N, 0.75))
    return Long(plan_of, seq_len, int((count_N > seq_len).sum()))


def test_long_cases_are_refused_with_their_number_and_the_longest(recipe: RecipeMaker, long: Long) -> None:
    error = complaint(lambda: long.plan(recipe(data={"seq_len": long.seq_len})))
    assert error.message.startswith(f"{long.above} of 400 cases are longer than data.seq_len={long.seq_len}")
    assert "data.long_cases" in error.hint


def test_long_cases_are_dropped_and_counted(recipe: RecipeMaker, long: Long, tokenizer: Any) -> None:
    for data in ({"packing": True}, {"packing": False}, {"sampling": "balanced"}):
        plan = long.plan(recipe(data={"seq_len": long.seq_len, "long_cases": "drop", **data}, train={"epochs": 1}))
        assert (plan.dropped, plan.cut, plan.cases) == (long.above, 0, 400 - long.above)
        assert sum(plan.class_counts_K) == plan.cases
        steps = list(Stream(plan, tokenizer, 0, 1).steps(0))
        assert sum(step.cases for step in steps) == plan.cases


def test_an_evaluation_answers_long_cases_too(recipe: RecipeMaker, long: Long, tokenizer: Any) -> None:
    plan = long.plan(recipe(data={"seq_len": long.seq_len, "long_cases": "drop"}), train=False)
    assert (plan.dropped, plan.cut, plan.cases) == (0, long.above, 400)
    assert sum(step.cases for step in Stream(plan, tokenizer, 0, 1).steps(0)) == 400


def test_long_cases_are_cut_and_keep_their_summary_token(recipe: RecipeMaker, long: Long, tokenizer: Any) -> None:
    plan = long.plan(recipe(data={"seq_len": long.seq_len, "long_cases": "cut"}, train={"epochs": 1}))
    assert (plan.dropped, plan.cut, plan.cases) == (0, long.above, 400)
    for step in Stream(plan, tokenizer, 0, 1).steps(0):
        for batch in step.micro_batches:
            assert batch.input_ids_BL.shape[1] <= long.seq_len
            last_C = batch.input_ids_BL.flatten()[batch.case_last_C]
            assert batch.masked or (last_C == tokenizer.eos_token_id).all()


def test_rows_that_the_reading_left_out_are_told(recipe: RecipeMaker, plan_of: PlanMaker, tmp_path: Path) -> None:
    rows = write_shards(patients(20), tmp_path / "rows", format="columns", dropped=lambda: {"where": 250, "groups": 0})
    said = notes(plan_of(recipe(), manifests=[rows], cache=tmp_path / "cache"))
    assert "data.train.0: 250 rows left out: where" in said
    assert not any("groups" in line for line in said)


@pytest.mark.parametrize("sampling", ["natural", "balanced"])
def test_all_cases_too_long_is_an_error(recipe: RecipeMaker, plan_of: PlanMaker, tmp_path: Path, sampling: str) -> None:
    asked = recipe(data={"seq_len": 8, "long_cases": "drop", "sampling": sampling})
    wordy = [replace(case, text="acute pain " * 20) for case in patients(30)]
    rows = write_shards(wordy, tmp_path / "rows", format="columns")
    assert "all 30 cases" in complaint(lambda: plan_of(asked, manifests=[rows], cache=tmp_path / "cache")).message


def test_cases_without_a_target_are_named(recipe: RecipeMaker, plan_of: PlanMaker, tmp_path: Path) -> None:
    assert (
        "400 cases have no token to learn from"
        in complaint(lambda: plan_of(recipe("generate", data={"seq_len": 16, "long_cases": "cut"}))).message
    )
    silent = Case(id="silent", kind="dialogue", group="s", messages=(("user", "acute pain, mild rash"),))
    manifest = write_shards([*patients(5), silent], tmp_path / "silent", format="columns")
    error = complaint(lambda: plan_of(recipe("generate"), manifests=[manifest]))
    assert error.message.endswith("silent") and "pain" not in str(error)


def test_labels_that_training_never_had_are_counted_and_named(
    recipe: RecipeMaker, plan_of: PlanMaker, tokenizer: Any, tmp_path: Path
) -> None:
    strange = [dataclasses.replace(case, label="X1", label_name="a new disease") for case in patients(3)]
    manifest = write_shards([*patients(50), *strange], tmp_path / "eval", format="columns")
    error = complaint(lambda: plan_of(recipe(), train=False, manifests=[manifest]))
    assert error.message == "3 cases have one of 1 labels that training never had: X1 (a new disease)"
    assert "data.unknown_labels=count" in error.hint
    plan = plan_of(recipe(data={"unknown_labels": "count"}), train=False, manifests=[manifest])
    steps = list(Stream(plan, tokenizer, 0, 1).steps(0))
    assert sum(int((b.case_label_C == -1).sum()) for step in steps for b in step.micro_batches) == 3
    assert sum(step.denominator for step in steps) == 50
    assert sum(step.cases for step in steps) == 53


@pytest.mark.parametrize("weights", ["balanced", "effective"])
def test_classes_are_not_evened_twice(recipe: RecipeMaker, plan_of: PlanMaker, weights: str) -> None:
    twice = recipe(data={"sampling": "balanced", "class_weights": weights})
    error = complaint(lambda: plan_of(twice))
    assert error.message == f"data.class_weights={weights} would weigh again what data.sampling=balanced draws evenly"
    plan_of(twice, train=False)
    plan_of(recipe("generate", data={"sampling": "balanced", "class_weights": weights}))


def test_what_a_generator_is_scored_over_is_held_against_training_too(
    recipe: RecipeMaker, plan_of: PlanMaker, tmp_path: Path
) -> None:
    strange = [dataclasses.replace(case, label="X1", label_name="a new disease") for case in patients(3)]
    talk = Case(id="talk", kind="dialogue", group="t", messages=(("user", "What helps?"), ("assistant", "rest")))
    manifest = write_shards([*patients(50), *strange, talk], tmp_path / "eval", format="columns")
    error = complaint(lambda: plan_of(recipe("generate"), train=False, manifests=[manifest]))
    assert error.message == "3 cases have one of 1 labels that training never had: X1 (a new disease)"
    counted = plan_of(recipe("generate", data={"unknown_labels": "count"}), train=False, manifests=[manifest])
    assert "data.eval: 1 of 54 cases have no label, and are in eval/loss but not in diag/*" in notes(counted)
    # Without labels, or with too many of them, no diagnosis is scored.
    many = {f"D{number}": number for number in range(MAX_LABELS + 1)}
    for index in ({}, many):
        plan = plan_of(recipe("generate"), train=False, manifests=[manifest], label_index=index)
        assert not any("diag/*" in note for note in notes(plan))


def test_a_case_without_a_label_cannot_be_classified(recipe: RecipeMaker, plan_of: PlanMaker, tmp_path: Path) -> None:
    unlabeled = dataclasses.replace(next(patients(1)), label=None)
    manifest = write_shards([*patients(9), unlabeled], tmp_path / "some", format="columns")
    assert "1 of 10 columns cases have no label" in complaint(lambda: plan_of(recipe(), manifests=[manifest])).message
