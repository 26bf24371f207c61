"""Files of all kinds become rows, faithfully, and say what is wrong with them and where."""

from __future__ import annotations

import gzip
import json
import lzma
import subprocess
from pathlib import Path
from typing import Any

import pytest

from distmed.cases.formats import format_of
from distmed.cases.sources import placed_rows
from distmed.errors import UserError
from distmed.recipe import Source

ROWS = [{"text": "a", "label": "x"}, {"text": "b", "label": "y"}]


def rows(path: object, **options: Any) -> list[dict[str, Any]]:
    source = Source(source=str(path), **options)
    return [row for _, row in placed_rows(source, format_of(source))]


def fault(path: object, **options: Any) -> UserError:
    with pytest.raises(UserError) as error:
        rows(path, **options)
    assert "\n" not in error.value.message + error.value.hint
    return error.value


def as_jsonl(values: list[Any]) -> str:
    return "".join(json.dumps(value) + "\n" for value in values)


def test_json_lines_may_change_types_hold_line_separators_and_end_without_newline(tmp_path: Path) -> None:
    values = [{"a": None}, {"a": [1, "x", 0.5]}, {"a": {"k": "v"}}, {"a": "one\u2028line"}]
    (tmp_path / "x.jsonl").write_text("\n\n".join(json.dumps(v, ensure_ascii=False) for v in values), encoding="utf-8")
    assert rows(tmp_path / "x.jsonl") == values


def test_csv_cells_stay_text_and_may_hold_lines(tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_text('\ufeffid,text\r\n007,"one\r\ntwo, three"\r\nNA,\r\n', encoding="utf-8", newline="")
    assert rows(tmp_path / "x.csv") == [{"id": "007", "text": "one\r\ntwo, three"}, {"id": "NA", "text": ""}]


def test_the_place_of_a_row_is_the_line_where_it_begins(tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_text('text,label\n"one\ntwo",x\nthree,y\n')
    source = Source(source=str(tmp_path / "x.csv"))
    places = [str(place) for place, _ in placed_rows(source, format_of(source))]
    assert places == [f"{tmp_path.name}/x.csv line 2", f"{tmp_path.name}/x.csv line 4"]


def test_tab_separated_compressed_and_headerless_tables(tmp_path: Path) -> None:
    (tmp_path / "x.tsv").write_text("text\tlabel\na\tx\nb\ty\n")
    with gzip.open(tmp_path / "x.jsonl.gz", "wt") as stream:
        stream.write(as_jsonl(ROWS))
    (tmp_path / "mmlu.csv").write_text('"Which, then?",w,x,y,z,B\n')
    assert rows(tmp_path / "x.tsv") == rows(tmp_path / "x.jsonl.gz") == ROWS
    assert rows(tmp_path / "mmlu.csv", format="mmlu")[0]["answer"] == "B"


def test_parquet_streams_with_lists_and_nulls(tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    values = [{"text": str(i), "tags": ["t"] * (i % 3), "label": None if i % 2 else "x"} for i in range(2500)]
    pq.write_table(pa.Table.from_pylist(values), tmp_path / "x[1].parquet", row_group_size=700)
    assert rows(tmp_path / "x[1].parquet") == values


def test_folders_and_globs_are_read_in_order_of_names(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "b.jsonl").write_text(as_jsonl(ROWS[1:]))
    (tmp_path / "a.jsonl").write_text(as_jsonl(ROWS[:1]))
    (tmp_path / "LICENSE.txt").write_text("free")
    (tmp_path / "settings.json").write_text('{"setting": 1}')
    (tmp_path / ".ipynb_checkpoints").mkdir()
    (tmp_path / ".ipynb_checkpoints" / "a.jsonl").write_text(as_jsonl(ROWS))
    assert rows(tmp_path) == rows(f"{tmp_path}/**/*.jsonl") == ROWS
    assert rows(f"{tmp_path}/*.jsonl") == ROWS[:1]


def test_zstandard_is_read_line_by_line(tmp_path: Path) -> None:
    import zstandard

    (tmp_path / "x.jsonl.zst").write_bytes(zstandard.ZstdCompressor().compress(as_jsonl(ROWS).encode()))
    assert rows(tmp_path / "x.jsonl.zst") == ROWS


def test_a_glob_misses_no_file_whose_name_ends_where_its_star_begins(tmp_path: Path) -> None:
    import fsspec

    names = ("train.jsonl", "train.v2.jsonl", "train2.jsonl")
    memory = fsspec.filesystem("memory")
    for name in names:
        (tmp_path / name).write_text(as_jsonl(ROWS))
        memory.pipe(f"/starred/{name}", as_jsonl(ROWS).encode())
        memory.pipe(f"/starred/.{name}", as_jsonl(ROWS).encode())
    assert len(rows(f"{tmp_path}/train*.jsonl")) == len(rows("memory://starred/train*.jsonl")) == 6
    assert len(rows("memory://starred/*.jsonl")) == 6


def test_linked_folders_are_entered_as_a_shell_does(tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    (tmp_path / "sites" / "a").mkdir(parents=True)
    elsewhere.mkdir()
    (tmp_path / "sites" / "b").symlink_to(elsewhere)
    (elsewhere / "back").symlink_to(tmp_path / "sites")
    (tmp_path / "sites" / "a" / "train.jsonl").write_text(as_jsonl(ROWS[:1]))
    (elsewhere / "train.jsonl").write_text(as_jsonl(ROWS[1:]))
    assert rows(tmp_path / "sites") == rows(f"{tmp_path}/sites/*/train.jsonl") == ROWS


def test_rows_that_are_there_twice_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text(as_jsonl(ROWS))
    (tmp_path / "latest.jsonl").symlink_to(tmp_path / "a.jsonl")
    assert "latest.jsonl holds the rows of" in fault(tmp_path).message
    (tmp_path / "latest.jsonl").unlink()
    (tmp_path / "a.jsonl.gz").write_bytes(gzip.compress(as_jsonl(ROWS).encode()))
    assert "a.jsonl.gz holds the rows of" in fault(f"{tmp_path}/a.*").message
    assert rows(tmp_path / "a.jsonl.gz") == ROWS
    (tmp_path / "joined.csv").write_text("text,label\na,x\ntext,label\nb,y\n")
    assert "joined.csv line 3 is the header once more" in fault(tmp_path / "joined.csv").message


def test_an_fsspec_url_is_a_source() -> None:
    import fsspec

    fsspec.filesystem("memory").pipe("/cases/x.jsonl", as_jsonl(ROWS).encode())
    assert rows("memory://cases/x.jsonl") == rows("memory://cases") == ROWS


def test_a_hub_id_goes_to_datasets(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    import datasets

    asked = []

    def load(name: str, **options: Any) -> datasets.IterableDataset:
        asked.append((name, options))
        return datasets.Dataset.from_list(ROWS).to_iterable_dataset()

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(datasets, "load_dataset", load)
    assert rows("owner/cases:validation") == ROWS
    assert asked == [("owner/cases", {"streaming": True, "split": "validation"})]


def test_rows_are_read_one_by_one(tmp_path: Path) -> None:
    (tmp_path / "x.jsonl").write_text(as_jsonl(ROWS) + "not json\n")
    source = Source(source=str(tmp_path / "x.jsonl"))
    stream = placed_rows(source, format_of(source))
    assert [row for _, row in (next(stream), next(stream))] == ROWS


def test_a_missing_file_or_folder_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert fault(tmp_path / "none.jsonl").message.startswith("not found: ")
    assert fault(f"{tmp_path}/*.csv").message.startswith("no data files in ")
    assert fault(tmp_path).message.startswith("no data files in ")
    monkeypatch.chdir(tmp_path)
    assert fault("data/none").message.startswith("cannot read data/none")


def test_a_file_of_unknown_kind_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x.docx").write_text("…")
    assert ".jsonl" in fault(tmp_path / "x.docx").hint


def test_an_unknown_protocol_is_refused() -> None:
    assert fault("nope://bucket/x.jsonl").message.startswith("cannot open nope://bucket/x.jsonl")


@pytest.mark.parametrize(
    ("name", "content", "what"),
    [
        ("x.jsonl", b'{"text": "a"}\n{"text": secret}\n', "x.jsonl line 2 is not JSON"),
        ("x.jsonl", b'{"text": "a"}\n["secret"]\n', "x.jsonl line 2 is no JSON object"),
        ("x.jsonl", b'{"text": "a"}\n\n{"text": "secret \xff"}\n', "x.jsonl line 3 is not UTF-8"),
        ("x.csv", b"text,label\na,x\nsecret \xff,y\n", "x.csv line 3 is not UTF-8"),
        ("x.csv", b"text,label\na,x\nsecret,y,z\n", "x.csv line 3 has 3 cells under 2 columns"),
        ("x.csv", b'text,label\na,x\n"secret,y\n', "x.csv line 3 is not CSV"),
        ("x.csv", b"text,label,text\na,x,b\n", "x.csv line 1: columns named twice: text"),
        ("x.jsonl.gz", b"secret", "cannot read"),
        ("x.jsonl.gz", gzip.compress(b'{"text": "secret"}\n' * 9, mtime=0)[:-9], "x.jsonl.gz after line 9: EOFError"),
        ("x.jsonl.xz", b"secret", "cannot read"),
        ("x.jsonl.xz", lzma.compress(b'{"text": "secret"}\n')[:-9], "x.jsonl.xz after line 1: EOFError"),
        ("x.jsonl.zst", b"secret", "cannot read"),
        (
            "x.jsonl",
            b'{"text": "a"}\n{"text": ' + b"[" * 99999 + b"]" * 99999 + b"}",
            "x.jsonl line 2 is nested too deep",
        ),
        ("x.jsonl", b'{"text": ' + b"7" * 9999 + b"}", "x.jsonl line 1 is not JSON"),
        ("x.parquet", b"secret", "cannot read"),
    ],
)
def test_a_broken_file_is_named_with_its_line_and_nothing_of_its_text(
    name: str, content: bytes, what: str, tmp_path: Path
) -> None:
    (tmp_path / name).write_bytes(content)
    error = fault(tmp_path / name)
    assert what in error.message
    assert "secret" not in str(error)


@pytest.mark.parametrize("encoding", ["windows-1252", "utf-16"])
def test_the_command_that_converts_a_file_works_as_it_is_shown(encoding: str, tmp_path: Path) -> None:
    path = tmp_path / "of the ward.csv"
    path.write_bytes("text,label\nétat fébrile,A\n".encode(encoding))
    command = fault(path).hint.partition("convert it: ")[2].partition(" (")[0]
    subprocess.run(command, shell=True, check=True, cwd=tmp_path)
    assert rows(tmp_path / "utf8-of the ward.csv") == [{"text": "état fébrile", "label": "A"}]


def test_an_empty_parquet_file_has_no_rows(tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    table = pa.Table.from_pylist(ROWS)
    pq.write_table(table, tmp_path / "a.parquet")
    pq.write_table(table.slice(0, 0), tmp_path / "b.parquet")
    assert rows(tmp_path) == ROWS
    assert rows(tmp_path / "b.parquet") == []


@pytest.mark.parametrize(
    ("content", "what"), [('{"exams": [1', "is not JSON"), ('{"tests": {}}', "is not laid out as head_qa")]
)
def test_a_nested_document_that_is_broken_or_another_is_refused(content: str, what: str, tmp_path: Path) -> None:
    (tmp_path / "x.json").write_text(content)
    assert what in fault(tmp_path / "x.json", format="head_qa").message


def test_a_json_list_says_how_to_turn_it_into_lines(tmp_path: Path) -> None:
    (tmp_path / "x.json").write_text(json.dumps(ROWS))
    assert "jq" in fault(tmp_path / "x.json").hint
