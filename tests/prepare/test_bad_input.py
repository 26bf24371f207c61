"""What a user gets wrong, through the door: one line says what and where, one how to mend it; no text of a patient in it."""

from __future__ import annotations

import json
import os
import stat
import sys
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from distmed.prepare import batches
from tests.prepare.conftest import PrepareDoor, note, rows_of

Table = Callable[..., Path]
PLAIN = "--no-deidentify"
SECRET = "secretname"


def lines(count: int) -> list[str]:
    return [json.dumps({"text": f"{SECRET} {note(n)}", "label": "D"}) for n in range(count)]


def refused(prepare: PrepareDoor, *arguments: object, out: Path) -> str:
    said = prepare.refuse(*arguments, out=out)
    assert SECRET not in said.message + said.hint
    assert not (out / "manifest.json").exists() and not (out / "report.json").exists()
    return said.message


def test_a_line_that_is_no_json_is_named(prepare: PrepareDoor, tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    path.write_text("\n".join([*lines(2), '{"text": "' + SECRET, *lines(1)]))
    assert "x.jsonl line 3 is not JSON" in refused(prepare, path, PLAIN, out=tmp_path / "out")


def test_bad_utf8_is_named_by_line(prepare: PrepareDoor, tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    path.write_bytes("\n".join(lines(2)).encode() + b'\n{"text": "\xff\xfe", "label": "D"}\n')
    assert "x.jsonl line 3 is not UTF-8" in refused(prepare, path, PLAIN, out=tmp_path / "out")


def test_files_of_different_columns_are_named(prepare: PrepareDoor, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.jsonl").write_text("\n".join(lines(3)))
    (tmp_path / "in" / "b.jsonl").write_text(json.dumps({"note": SECRET, "label": "D"}))
    assert "b.jsonl line 1 lacks the column text" in refused(prepare, tmp_path / "in", PLAIN, out=tmp_path / "out")


def test_a_truncated_parquet_file_is_named(prepare: PrepareDoor, tmp_path: Path) -> None:
    path = tmp_path / "x.parquet"
    pq.write_table(pa.Table.from_pylist([json.loads(line) for line in lines(50)]), path)
    path.write_bytes(path.read_bytes()[:-40])
    assert "x.parquet" in refused(prepare, path, PLAIN, out=tmp_path / "out")


def test_nothing_left_says_which_rules_took_it(prepare: PrepareDoor, table: Table, tmp_path: Path) -> None:
    rows = [{"text": " ", "label": "D"}, {"text": "x", "label": None}, {"text": "y", "label": "E"}]
    said = refused(prepare, table(rows), PLAIN, "--where", "label=D", out=tmp_path / "out")
    assert "no case is left of 3 rows" in said
    assert "read: where (2)" in said and "clean: empty text (1)" in said


@pytest.mark.parametrize(
    ("wanted", "kept"),
    [("012", [0]), ("10", [1]), ("1E5", [2]), ("no", [3]), ("[012,no]", [0, 3]), ("250.00", [4]), ("a: b", [5]),
     ("'10'", []), ("true", [6]), ("2020-01-01", [7])],
)  # fmt: skip
def test_where_takes_a_value_as_it_is_written(
    prepare: PrepareDoor, table: Table, tmp_path: Path, wanted: str, kept: list[int]
) -> None:
    codes = ["012", 10, "1E5", "no", "250.00", "a: b", True, "2020-01-01"]
    rows = [{"text": note(n), "label": "D", "code": code} for n, code in enumerate(codes)]
    asked = (table(rows), PLAIN, "--where", f"code={wanted}")
    if kept:
        assert [case.text for case in prepare(*asked, out=tmp_path / "out").cases()] == [note(n) for n in kept]
    else:
        assert "no case is left" in prepare.refuse(*asked, out=tmp_path / "out").message


@pytest.mark.parametrize("value", ["[1", "[]", "[[a]]", "'a"])
def test_a_where_that_is_no_value_is_told(prepare: PrepareDoor, table: Table, tmp_path: Path, value: str) -> None:
    said = refused(prepare, table(rows_of(3)), PLAIN, "--where", f"label={value}", out=tmp_path / "out")
    assert "is no value and no list of values" in said


def test_a_filter_on_what_is_prepared_already_is_told(prepare: PrepareDoor, table: Table, tmp_path: Path) -> None:
    done = prepare(table(rows_of(20)), PLAIN, out=tmp_path / "first").folder
    for option in (("--where", "label=D1"), ("--columns", "text=text", "--columns", "label=label")):
        said = refused(prepare, done, PLAIN, *option, out=tmp_path / "out")
        assert f"is prepared already: {option[0]} has no effect on it" in said
        assert not (tmp_path / "out").exists()
    # The --columns of a table do not concern the sets it is compared with.
    columns = ("--columns", "text=text", "--columns", "label=label")
    more = (PLAIN, *columns, "--without", done, "--without", "builtin:patients/eval")
    fresh = table([{"text": note(n), "label": "D"} for n in (1, 500)], "fresh.jsonl")
    assert [case.text for case in prepare(fresh, *more, out=tmp_path / "out").cases()] == [note(500)]


def test_an_empty_source_is_told(prepare: PrepareDoor, tmp_path: Path) -> None:
    (tmp_path / "x.jsonl").write_text("")
    assert "hold no rows" in refused(prepare, tmp_path / "x.jsonl", PLAIN, out=tmp_path / "out")
    pq.write_table(
        pa.table({"text": pa.array([], pa.string()), "label": pa.array([], pa.string())}), tmp_path / "x.parquet"
    )
    assert "hold no rows: x.parquet" in refused(prepare, tmp_path / "x.parquet", PLAIN, out=tmp_path / "out")


@pytest.mark.parametrize("url", ["s3://bucket/x.jsonl", "nosuch://bucket/x.jsonl"])
def test_a_protocol_that_cannot_be_opened_is_told(
    prepare: PrepareDoor, tmp_path: Path, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "s3fs", None)  # as where it is not installed
    assert f"cannot open {url}" in refused(prepare, url, PLAIN, out=tmp_path / "out")


def test_half_a_character_is_mended_in_a_text_and_named_elsewhere(
    prepare: PrepareDoor, table: Table, tmp_path: Path
) -> None:
    cut = [{"text": f"{note(1)} \ud83d", "label": "D"}]
    (case,) = prepare(table(cut), PLAIN, out=tmp_path / "out").cases()
    assert case.text == f"{note(1)} \N{REPLACEMENT CHARACTER}"
    assert "line 1 holds half a character" in refused(prepare, table(cut), PLAIN, "--no-clean", out=tmp_path / "raw")
    label = table([{"text": note(1), "label": "D\ud83d"}])
    assert "line 1 holds half a character" in refused(prepare, label, PLAIN, out=tmp_path / "label")


def test_a_missing_source_is_told_before_anything_is_written(prepare: PrepareDoor, tmp_path: Path) -> None:
    assert "not found" in refused(prepare, tmp_path / "nowhere.jsonl", PLAIN, out=tmp_path / "out")
    assert not (tmp_path / "out").exists()
    (tmp_path / "x.jsonl").write_text("\n".join(lines(3)))
    said = refused(prepare, tmp_path / "x.jsonl", PLAIN, "--without", tmp_path / "no.csv", out=tmp_path / "out")
    assert "not found" in said
    assert not (tmp_path / "out").exists()


def test_a_prepared_source_that_was_changed_is_told(prepare: PrepareDoor, table: Table, tmp_path: Path) -> None:
    done = prepare(table(rows_of(20)), PLAIN, out=tmp_path / "first")
    shard = done.folder / "00000.parquet"
    shard.write_bytes(shard.read_bytes()[:-3])
    assert "truncated" in refused(prepare, done.folder, PLAIN, out=tmp_path / "out")


def test_a_prepared_folder_can_be_prepared_again(prepare: PrepareDoor, table: Table, tmp_path: Path) -> None:
    done = prepare(table(rows_of(60)), PLAIN, out=tmp_path / "first")
    again = prepare(done.folder, PLAIN, "--split", "train=0.5,test=0.5", out=tmp_path / "out")
    assert len(again.cases("train")) + len(again.cases("test")) == 60


def test_a_missing_label_is_an_error_where_cleaning_is_off(prepare: PrepareDoor, table: Table, tmp_path: Path) -> None:
    rows = [*rows_of(2), {"text": note(9), "label": ""}]
    said = refused(prepare, table(rows), PLAIN, "--no-clean", out=tmp_path / "out")
    assert "line 3 has no label" in said


def test_a_number_that_is_none_is_a_missing_cell(prepare: PrepareDoor, tmp_path: Path) -> None:
    rows: list[dict[str, object]] = [{"text": note(n), "label": "D", "patient": f"P{n}"} for n in range(6)]
    rows[1]["label"] = rows[2]["text"] = float("nan")
    lines, parquet = tmp_path / "x.jsonl", tmp_path / "x.parquet"
    lines.write_text("".join(json.dumps(row) + "\n" for row in rows))
    done = prepare(lines, PLAIN, out=tmp_path / "lines")
    assert done.report["dropped"] == {"clean": {"empty text": 1, "no label": 1}}
    pq.write_table(pa.table({"text": [note(1), note(2)], "label": [1.0, float("nan")]}), parquet)
    assert [case.label for case in prepare(parquet, PLAIN, out=tmp_path / "parquet").cases()] == ["1"]
    rows[4]["patient"] = float("nan")
    lines.write_text("".join(json.dumps(row) + "\n" for row in rows))
    said = refused(prepare, lines, PLAIN, "--group-by", "patient", out=tmp_path / "out")
    assert "line 5 has nothing in `patient`" in said


def test_an_out_that_is_a_file_is_refused(prepare: PrepareDoor, table: Table, tmp_path: Path) -> None:
    (tmp_path / "out").write_text("")
    assert "is a file" in prepare.refuse(table(rows_of(3)), PLAIN, out=tmp_path / "out").message
    below = prepare.refuse(table(rows_of(3)), PLAIN, out=tmp_path / "out" / "x" / "y")
    assert below.message == f"{tmp_path / 'out'} is a file"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_an_out_that_cannot_be_written_is_told(prepare: PrepareDoor, table: Table, tmp_path: Path) -> None:
    (tmp_path / "closed").mkdir(mode=stat.S_IRUSR | stat.S_IXUSR)
    assert "closed" in prepare.refuse(table(rows_of(3)), PLAIN, out=tmp_path / "closed" / "out").message


@pytest.mark.slow
def test_a_killed_process_is_told_and_the_run_goes_on_after(
    prepare: PrepareDoor, table: Table, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = table(rows_of(3000))
    with monkeypatch.context() as patch:
        patch.setattr(batches, "_in_process", _dies)
        said = refused(prepare, source, PLAIN, "--num-workers", 2, out=tmp_path / "out")
    assert "was killed" in said
    assert len(prepare(source, PLAIN, out=tmp_path / "out").cases()) == 3000


def _dies(path: Path, batch: list) -> None:
    os._exit(9)


def test_a_full_disk_is_told(
    prepare: PrepareDoor, table: Table, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("distmed.prepare.parts.pq.write_table", full)
    said = prepare.refuse(table(rows_of(3)), PLAIN, out=tmp_path / "out")
    assert "No space left on device" in said.message and "continues" in said.hint
