"""Row groups that cannot be read: they stop the run, or are skipped within a budget and reported one by one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from distmed.errors import UserError
from distmed.prepare.manifest import Manifest
from distmed.prepare.shards import read_cases_of, write_shards
from distmed.recipe import Recipe
from distmed.stream.report import notes
from distmed.stream.stream import Stream, StreamPlan
from tests.stream.conftest import patients
from tests.stream.steps import case_ids

RecipeMaker = Callable[..., Recipe]
PlanMaker = Callable[..., StreamPlan]


@pytest.fixture
def broken(tmp_path: Path) -> Manifest:
    """100 cases in row groups of 10, of which the third cannot be read."""
    manifest = write_shards(patients(100), tmp_path / "rows", format="columns", rows_per_group=10)
    path = manifest.folder / manifest.shards[0].path
    content = bytearray(path.read_bytes())
    group = pq.ParquetFile(path).metadata.row_group(2)
    for c in range(group.num_columns):
        column = group.column(c)
        first = column.dictionary_page_offset or column.data_page_offset
        content[first : first + column.total_compressed_size] = b"\xff" * column.total_compressed_size
    path.write_bytes(content)
    return manifest


SKIP = {"on_error": "skip", "skip_budget": 0.1}


@pytest.mark.parametrize("keep", ["ids", "counts"])
@pytest.mark.parametrize("sampling", ["natural", "balanced"])
def test_what_cannot_be_read_is_skipped_and_reported(
    recipe: RecipeMaker, plan_of: PlanMaker, tokenizer: Any, broken: Manifest, tmp_path: Path, keep: str, sampling: str
) -> None:
    if (keep, sampling) == ("counts", "balanced"):
        pytest.skip("refused")
    asked = recipe(data={**SKIP, "token_cache": keep, "sampling": sampling}, train={"epochs": 1})
    plan = plan_of(asked, manifests=[broken], cache=tmp_path / "cache")
    assert plan.cases == 90
    seen = Counter(case for step in Stream(plan, tokenizer, 0, 1).steps(0) for case in case_ids(step))
    lost = {f"case-{n}" for n in range(20, 30)}
    assert not lost & seen.keys()
    assert sum(seen.values()) == 90
    if sampling == "natural":
        assert set(seen.values()) == {1}
    said = [note for note in notes(plan) if "skipped" in note]
    assert f"{broken.folder / '00000.parquet'}, row group 2 (rows 21 to 30)" in said[0]
    assert "10 rows skipped in all" in said[1]


@pytest.mark.parametrize("column", ["findings.list.element", "label"])
def test_a_bit_that_flipped_is_found_wherever_it_is(
    recipe: RecipeMaker, plan_of: PlanMaker, tmp_path: Path, column: str
) -> None:
    """It need not make a page unreadable: other findings would be trained, or cases without their label."""
    manifest = write_shards(patients(100), tmp_path / "rows", format="columns", rows_per_group=10)
    path = manifest.folder / manifest.shards[0].path
    whole = path.read_bytes()
    group = pq.ParquetFile(path).metadata.row_group(2)
    chunk = next(c for c in map(group.column, range(group.num_columns)) if c.path_in_schema == column)
    first = chunk.dictionary_page_offset or chunk.data_page_offset
    for place in (0.3, 0.4, 0.9, 0.97):
        content = bytearray(whole)
        content[first + int(place * chunk.total_compressed_size)] ^= 4
        path.write_bytes(content)
        plan = plan_of(recipe(data=SKIP), manifests=[manifest], cache=tmp_path / f"cache-{place}")
        assert plan.cases == 90
        assert any("row group 2 (rows 21 to 30)" in note for note in notes(plan))


def test_an_unreadable_row_group_stops_the_run_by_default(
    recipe: RecipeMaker, plan_of: PlanMaker, broken: Manifest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(UserError, match="shard changed"):
        plan_of(recipe(), manifests=[broken], cache=tmp_path / "cache")
    monkeypatch.setattr(Manifest, "verify", lambda self, *, checksums: None)  # it broke after it was compared
    with pytest.raises(UserError, match=r"00000.parquet, row group 2 \(rows 21 to 30\)") as raised:
        plan_of(recipe(), manifests=[broken], cache=tmp_path / "cache")
    assert "data.on_error=skip" in raised.value.hint


def test_more_than_the_budget_stops_the_run(
    recipe: RecipeMaker, plan_of: PlanMaker, broken: Manifest, tmp_path: Path
) -> None:
    with pytest.raises(
        UserError, match=r"10 rows cannot be read, data.skip_budget allows 9; the first: shard unreadable"
    ):
        plan_of(recipe(data={**SKIP, "skip_budget": 0.09}), manifests=[broken], cache=tmp_path / "cache")


def test_a_missing_or_truncated_shard_is_skipped_row_group_by_row_group(
    recipe: RecipeMaker, plan_of: PlanMaker, tmp_path: Path
) -> None:
    manifest = write_shards(patients(300), tmp_path / "rows", format="columns", rows_per_group=10, shard_bytes=1000)
    first, second = (manifest.folder / shard.path for shard in manifest.shards[:2])
    first.unlink()
    second.write_bytes(second.read_bytes()[:-100])
    asked = recipe(data={**SKIP, "skip_budget": 0.9}, train={"epochs": 1})
    plan = plan_of(asked, manifests=[manifest], cache=tmp_path / "cache")
    assert plan.cases == 300 - manifest.shards[0].rows - manifest.shards[1].rows


def test_a_repaired_source_is_another_stream_than_one_with_holes(
    recipe: RecipeMaker, plan_of: PlanMaker, tokenizer: Any, broken: Manifest, tmp_path: Path
) -> None:
    asked = recipe(data=SKIP)
    holes = plan_of(asked, manifests=[broken], cache=tmp_path / "cache")
    # Going on with the holes is fine, whatever became of the shard meanwhile: the counts are kept.
    repaired = write_shards(patients(100), tmp_path / "rows", format="columns", rows_per_group=10)
    assert repaired.hash == broken.hash
    again = plan_of(asked, manifests=[repaired], cache=tmp_path / "cache")
    assert again.identity == holes.identity
    whole = plan_of(recipe(), manifests=[repaired], cache=tmp_path / "cache")
    assert whole.cases == 100
    with pytest.raises(UserError, match="rows skipped"):
        Stream(whole, tokenizer, 0, 1).check(Stream(holes, tokenizer, 0, 1).state(8))
    assert len(list(read_cases_of(repaired))) == 100


def test_nothing_skipped_is_nothing_changed(recipe: RecipeMaker, plan_of: PlanMaker, tokenizer: Any) -> None:
    careful, plain = plan_of(recipe(data={"on_error": "skip"})), plan_of(recipe())
    assert careful.identity == plain.identity
    assert careful.skipped == []
