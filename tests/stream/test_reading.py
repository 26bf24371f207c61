"""Rows that are read and tokenised as they come, where only their counts are kept."""

from __future__ import annotations

import dataclasses
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from distmed.errors import UserError
from distmed.prepare.manifest import Manifest
from distmed.prepare.shards import write_shards
from distmed.recipe import Recipe
from distmed.stream import order
from distmed.stream.stream import Stream, StreamPlan
from tests.stream.conftest import patients
from tests.stream.steps import bytes_of

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("small_windows")]

RecipeMaker = Callable[..., Recipe]
PlanMaker = Callable[..., StreamPlan]


@pytest.mark.parametrize("task", ["classify", "generate"])
def test_kept_ids_and_ids_made_on_the_spot_give_the_same_steps_to_the_byte(
    recipe: RecipeMaker, plan_of: PlanMaker, tokenizer: Any, tmp_path: Path, task: str
) -> None:
    data = {"drop_findings": 0.3, "shuffle_findings": True}
    kept = plan_of(recipe(task, data={**data, "token_cache": "ids"}), cache=tmp_path / "a")
    counted = plan_of(recipe(task, data={**data, "token_cache": "counts"}), cache=tmp_path / "b")
    assert kept.ids_kept and not counted.ids_kept
    assert kept.identity == counted.identity
    for rank in range(2):
        one, other = (Stream(plan, tokenizer, rank, 2).steps(0, prefetch=False) for plan in (kept, counted))
        assert bytes_of(one) == bytes_of(other)


def test_a_position_is_the_same_whether_ids_are_kept_or_not(
    recipe: RecipeMaker, plan_of: PlanMaker, tokenizer: Any, tmp_path: Path
) -> None:
    kept = plan_of(recipe(data={"token_cache": "ids"}), cache=tmp_path)
    state = Stream(kept, tokenizer, 0, 1).state(24)
    counted = Stream(plan_of(recipe(data={"token_cache": "counts"}), cache=tmp_path / "other"), tokenizer, 0, 1)
    counted.check(state)
    assert bytes_of(counted.steps(24)) == bytes_of(Stream(kept, tokenizer, 0, 1).steps(24))


@pytest.mark.parametrize(
    ("groups", "world_size"), [*((256, workers) for workers in (2, 3, 4, 5, 7, 8, 12, 16)), (200, 12), (200, 16)]
)
def test_row_groups_are_read_little_more_than_once(
    recipe: RecipeMaker,
    plan_of: PlanMaker,
    tokenizer: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    groups: int,
    world_size: int,
) -> None:
    """In small: 32 lanes of eight row groups; of six, and eight lanes of one more."""
    monkeypatch.setattr(order, "WINDOW_ROWS", 40)
    manifest = write_shards(patients(10 * groups), tmp_path / "rows", format="columns", rows_per_group=10)
    asked = recipe(
        data={"token_cache": "counts", "seq_len": 64, "long_cases": "cut"}, train={"epochs": 1, "global_batch": 32}
    )
    plan = plan_of(asked, manifests=[manifest], cache=tmp_path / "cache")
    reads = 0
    for rank in range(world_size):
        stream = Stream(plan, tokenizer, rank, world_size)
        for _ in stream.steps(0, prefetch=False):
            pass
        assert stream.reader is not None
        reads += stream.reader.reads
    assert reads / groups <= 1.15


def test_row_groups_too_large_to_hold_are_refused(
    recipe: RecipeMaker, plan_of: PlanMaker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("distmed.stream.build.LARGEST_GROUP", 19)
    plan_of(recipe(), cache=tmp_path / "a")
    with pytest.raises(UserError, match="row groups of 20 rows, too many to hold at once"):
        plan_of(recipe(data={"token_cache": "counts"}), cache=tmp_path / "b")


def test_balanced_draws_need_kept_ids(recipe: RecipeMaker, plan_of: PlanMaker, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"data\.sampling=balanced") as raised:
        plan_of(recipe(data={"token_cache": "counts", "sampling": "balanced"}), cache=tmp_path)
    assert "data.token_cache=ids" in raised.value.hint


def test_another_tokenizer_than_the_one_that_counted_is_found_out(
    recipe: RecipeMaker, plan_of: PlanMaker, tokenizer: Any, tmp_path: Path
) -> None:
    plan = plan_of(recipe(data={"token_cache": "counts"}), cache=tmp_path)
    other = pickle.loads(pickle.dumps(tokenizer))
    other.add_tokens(["severe pain", "acute", "fever"])
    with pytest.raises(UserError, match="were counted: data or tokenizer changed meanwhile"):
        list(Stream(plan, other, 0, 1).steps(0, prefetch=False))


def test_a_shard_replaced_meanwhile_is_found_out(
    recipe: RecipeMaker, plan_of: PlanMaker, tokenizer: Any, tmp_path: Path
) -> None:
    manifest = write_shards(patients(60), tmp_path / "rows", format="columns", rows_per_group=20)
    plan = plan_of(recipe(data={"token_cache": "counts"}), manifests=[manifest], cache=tmp_path / "cache")
    longer = (dataclasses.replace(case, findings=case.findings * 2) for case in patients(60))
    replaced: Manifest = write_shards(longer, tmp_path / "rows", format="columns", rows_per_group=20)
    assert replaced.hash != manifest.hash
    with pytest.raises(UserError, match="were counted"):
        list(Stream(plan, tokenizer, 0, 1).steps(0, prefetch=False))
