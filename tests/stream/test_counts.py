"""The counting pass: what is kept, in how many processes, and after what interruptions."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from distmed.cases.case import Case
from distmed.prepare.shards import write_shards
from distmed.recipe import Recipe
from distmed.stream import counts
from distmed.stream.stream import StreamPlan
from tests.stream.conftest import complaint, patients

RecipeMaker = Callable[..., Recipe]
PlanMaker = Callable[..., StreamPlan]


def test_nothing_is_counted_twice(recipe: RecipeMaker, plan_of: PlanMaker, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = plan_of(recipe())
    monkeypatch.setattr(counts, "_count_one", None)
    again = plan_of(recipe(data={"seq_len": 160, "packing": False}))
    assert again.token_folders == plan.token_folders
    assert plan.counted_tokens_per_s > 0


def test_ids_are_kept_after_all_where_counts_were_kept_before(
    recipe: RecipeMaker, plan_of: PlanMaker, tmp_path: Path
) -> None:
    before = plan_of(recipe(data={"token_cache": "counts"}), cache=tmp_path)
    after = plan_of(recipe(data={"token_cache": "ids"}), cache=tmp_path)
    assert (before.ids_kept, after.ids_kept) == (False, True)
    assert before.identity == after.identity


@pytest.mark.slow
def test_processes_count_what_one_counts(
    recipe: RecipeMaker, plan_of: PlanMaker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(counts, "ROWS_PER_PROCESS", 50)
    alone = plan_of(recipe(data={"drop_findings": 0.2}), cache=tmp_path / "one", processes=1)
    together = plan_of(recipe(data={"drop_findings": 0.2}), cache=tmp_path / "two", processes=2)
    for one, two in zip(chain(*alone.token_folders), chain(*together.token_folders), strict=True):
        assert one.name == two.name
        for name in ("ids.i4", "offsets.i8", "starts.i4"):
            assert (one / name).read_bytes() == (two / name).read_bytes()
    assert not multiprocessing.active_children()


def test_a_shard_changed_since_it_was_prepared_is_named_before_it_is_counted(
    recipe: RecipeMaker, plan_of: PlanMaker, tmp_path: Path
) -> None:
    manifest = write_shards(patients(20), tmp_path / "cases", format="columns")
    shard = manifest.folder / manifest.shards[0].path
    content = bytearray(shard.read_bytes())
    content[100] ^= 1
    shard.write_bytes(content)
    error = complaint(lambda: plan_of(recipe(), manifests=[manifest], cache=tmp_path / "cache"))
    assert error.message.startswith(f"shard changed: {shard}")
    assert not list((tmp_path / "cache").iterdir())


def test_a_full_disk_is_told_before_it_is_full(
    recipe: RecipeMaker, plan_of: PlanMaker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda _: type("Usage", (), {"free": 10}))
    error = complaint(lambda: plan_of(recipe(data={"token_cache": "ids"}), cache=tmp_path / "cache"))
    assert "token ids need about" in error.message
    assert not list((tmp_path / "cache").iterdir())
    assert not plan_of(recipe(), cache=tmp_path / "cache").ids_kept  # by itself it keeps what fits


def test_an_interrupted_count_goes_on_where_it_stopped(
    recipe: RecipeMaker, plan_of: PlanMaker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    straight = plan_of(recipe(data={"drop_findings": 0.2}), cache=tmp_path / "straight")
    monkeypatch.setattr("distmed.stream.tokens.MARK_EVERY_S", 0)
    block, calls = counts._block, []

    def interrupted(encode: Any, cases: list[Case], epoch: int, train: bool) -> Any:
        calls.append(len(cases))
        if len(calls) == 21:
            raise KeyboardInterrupt
        return block(encode, cases, epoch, train)

    monkeypatch.setattr(counts, "_block", interrupted)
    with pytest.raises(KeyboardInterrupt):
        plan_of(recipe(data={"drop_findings": 0.2}), cache=tmp_path / "cache")
    before = len(calls)
    plan = plan_of(recipe(data={"drop_findings": 0.2}), cache=tmp_path / "cache")
    groups = sum(len(manifest.row_groups) for manifest in plan.manifests)
    assert before + len(calls) - before == 2 * groups + 1  # two epochs; only what was interrupted is done again
    for one, other in zip(chain(*straight.token_folders), chain(*plan.token_folders), strict=True):
        for name in ("ids.i4", "offsets.i8", "starts.i4"):
            assert (one / name).read_bytes() == (other / name).read_bytes()


def test_a_crash_of_the_machine_costs_what_had_not_reached_the_disk(tmp_path: Path) -> None:
    from distmed.stream.tokens import FolderWriter

    with pytest.raises(KeyboardInterrupt), FolderWriter(tmp_path / "a") as out:
        for number in range(3):
            out.append("x.i4", np.full(5, number, "<i4"))
            out.mark({"done": number})
        raise KeyboardInterrupt
    with (tmp_path / ".a.part" / "x.i4").open("r+b") as file:
        file.truncate(50)
    with FolderWriter(tmp_path / "a") as out:
        assert [mark["done"] for mark in out.marks] == [0, 1]
        out.rewind(out.marks[-1])
        out.append("x.i4", np.full(5, 7, "<i4"))
        out.finish({})
    assert np.fromfile(tmp_path / "a" / "x.i4", "<i4").tolist() == [0] * 5 + [1] * 5 + [7] * 5


@pytest.mark.slow
def test_ray_tasks_count_what_one_process_counts(
    recipe: RecipeMaker, plan_of: PlanMaker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a cluster of several hosts; here one host plays it."""
    import ray

    from distmed import session
    from distmed.stream import pools

    monkeypatch.setattr(counts, "ROWS_PER_PROCESS", 50)
    alone = plan_of(recipe(), cache=tmp_path / "one")
    with session.connected():
        monkeypatch.setattr(pools, "_cluster_cpus", lambda: 2)
        together = plan_of(recipe(), cache=tmp_path / "two", processes=2)
        assert ray.is_initialized()
    for one, two in zip(chain(*alone.token_folders), chain(*together.token_folders), strict=True):
        assert one.name == two.name
        for name in ("ids.i4", "offsets.i8", "starts.i4"):
            assert (one / name).read_bytes() == (two / name).read_bytes()
    assert alone.identity == together.identity
