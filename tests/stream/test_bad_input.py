"""What is wrong with the files of a raw source, as a run meets it: named with its place, and nothing half-written."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from distmed.errors import UserError
from distmed.recipe import Source
from distmed.stream.store import open_data

GOOD = [json.dumps({"text": f"acute pain {n}", "label": "D0"}) for n in range(5)]


def complaint(source: Source, cache: Path) -> UserError:
    with pytest.raises(UserError) as raised:
        open_data(source, cache)
    assert "\n" not in raised.value.message and "acute" not in str(raised.value)
    assert not list(cache.rglob("manifest.json"))
    return raised.value


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (b"{not json", "rows.jsonl line 3 is not JSON"),
        (b'"text"', "rows.jsonl line 3 is no JSON object"),
        (b'{"text": "acute \xff", "label": "D0"}', "rows.jsonl line 3 is not UTF-8"),
        (b'{"text": "acute"}', "rows.jsonl line 3 lacks the column label"),
    ],
)
def test_a_bad_line_is_named_with_its_number(line: bytes, said: str, tmp_path: Path) -> None:
    lines = [text.encode() for text in GOOD]
    (tmp_path / "rows.jsonl").write_bytes(b"\n".join([*lines[:2], line, *lines[2:]]))
    source = Source(source=str(tmp_path / "rows.jsonl"), columns={"text": "text", "label": "label"})
    assert complaint(source, tmp_path / "cache").message.endswith(said) or said in str(
        complaint(source, tmp_path / "c")
    )


def test_files_of_different_columns_are_named(tmp_path: Path) -> None:
    (tmp_path / "rows").mkdir()
    pq.write_table(pa.table({"text": ["acute"], "label": ["D0"]}), tmp_path / "rows" / "a.parquet")
    pq.write_table(pa.table({"note": ["acute"], "label": ["D0"]}), tmp_path / "rows" / "b.parquet")
    source = Source(source=str(tmp_path / "rows"), columns={"text": "text", "label": "label"})
    error = complaint(source, tmp_path / "cache")
    assert "b.parquet row 1 lacks the column text" in error.message and "note" in error.hint


def test_no_row_left_after_filtering_says_which_rule_took_them(tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_text("\n".join(GOOD))
    columns = {"text": "text", "label": "label"}
    source = Source(source=str(tmp_path / "rows.jsonl"), columns=columns, where={"label": "D9"})
    assert "all were dropped: where (5)" in complaint(source, tmp_path / "cache").message


def test_a_truncated_parquet_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "rows.parquet"
    pq.write_table(pa.table({"text": ["acute"] * 50, "label": ["D0"] * 50}), path)
    path.write_bytes(path.read_bytes()[:-20])
    source = Source(source=str(path), columns={"text": "text", "label": "label"})
    assert "rows.parquet" in complaint(source, tmp_path / "cache").message
