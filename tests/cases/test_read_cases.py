"""A source of the recipe becomes cases, counted; what the user can mend is said in one line."""

from __future__ import annotations

import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from distmed.cases.read import CaseReader, read_cases
from distmed.cases.rows import text_of
from distmed.errors import UserError
from distmed.recipe import Source

ROWS: list[dict[str, Any]] = [
    {"text": "a secret", "label": "x", "closed": True, "site": "A", "year": 2015},
    {"text": "b secret", "label": "y", "closed": False, "site": "B", "year": 2016},
    {"text": "c secret", "label": "x", "closed": True, "site": "C", "year": 2017},
]


@pytest.fixture
def table(tmp_path: Path) -> str:
    path = tmp_path / "site" / "x.jsonl"
    path.parent.mkdir()
    path.write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    return str(path)


def texts(table: str, **options: Any) -> list[str]:
    return [case.text[0] for case in read_cases(Source(source=table, **options))]


def fault(source: str, task: Any = None, **options: Any) -> UserError:
    with pytest.raises(UserError) as error:
        list(read_cases(Source(source=source, **options), task))
    assert "secret" not in str(error.value)
    return error.value


@pytest.mark.parametrize(
    ("where", "kept"),
    [
        ({"closed": True}, ["a", "c"]),
        ({"site": ["A", "B"]}, ["a", "b"]),
        ({"closed": True, "site": ["A", "B"]}, ["a"]),
        ({"year": [2016, 2017]}, ["b", "c"]),
        ({}, ["a", "b", "c"]),
    ],
)
def test_where_keeps_rows_by_equality_or_membership(where: dict[str, Any], kept: list[str], table: str) -> None:
    reader = CaseReader(Source(source=table, where=where))
    assert [case.text[0] for case in reader] == kept
    assert reader.cases == len(kept)
    assert reader.dropped["where"] == 3 - len(kept)


def test_where_understands_the_text_cells_of_a_csv(tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    path.write_text("text,label,closed,year\na,x,True,2015\nb,y,false,2016\nc,x,1,2016\n")
    assert texts(str(path), where={"closed": True}) == ["a", "c"]
    assert texts(str(path), where={"year": 2016}) == ["b", "c"]


def test_limit_counts_cases_after_where(table: str) -> None:
    assert texts(table, where={"closed": True}, limit=2) == ["a", "c"]
    assert texts(table, limit=2) == ["a", "b"]


def test_a_second_pass_counts_anew(table: str) -> None:
    reader = CaseReader(Source(source=table, where={"closed": True}))
    assert list(reader) == list(reader)
    assert (reader.cases, reader.dropped["where"]) == (2, 1)


def test_a_case_without_an_id_is_named_by_its_place_so_that_two_sites_stay_apart(table: str, tmp_path: Path) -> None:
    other = tmp_path / "other" / "x.jsonl"
    other.parent.mkdir()
    other.write_text(Path(table).read_text())
    here, there = (next(read_cases(Source(source=str(path)))) for path in (table, other))
    assert (here.id, here.group) == ("site/x.jsonl:1", "site/x.jsonl:1")
    assert there.id == "other/x.jsonl:1"


def test_sex_and_age_band_are_subgroups_beside_those_of_the_source(tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    path.write_text("text,label,sex,age,site\na,x,F,70,B\nb,y,,,\n")
    columns = {"text": "text", "label": "label", "sex": "sex", "age": "age", "subgroup.site": "site"}
    first, second = read_cases(Source(source=str(path), columns=columns))
    assert first.subgroups == {"sex": "female", "age": "65+", "site": "B"}
    assert second.subgroups == {}


def test_a_missing_column_is_named_with_those_there_are(table: str) -> None:
    error = fault(table, columns={"text": "note", "label": "label"})
    assert error.message.endswith("x.jsonl line 1 lacks the column note")
    assert error.hint == "there are: text, label, closed, site, year"
    assert "lacks the column split" in fault(table, where={"split": "train"}).message


def test_a_vignette_in_place_of_a_header_does_not_get_out_whole(tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_text(f"{'A man of 58 with a long story ' * 5}and a secret,gout\nA second,flu\n")
    assert "lacks the column" in fault(str(tmp_path / "x.csv")).message


@pytest.mark.parametrize(
    ("first", "hint"),
    [
        ("Ada Okoro,1234567,gout", "there are: 3 columns; is there a header line?"),
        ("Ada Okoro,Lagos,gout", "there are: 3 columns; is there a header line?"),
        ("Patient ID,Chief Complaint,ICD-10", "there are: Patient ID, Chief Complaint, ICD-10"),
    ],
)
def test_a_first_patient_in_place_of_a_header_is_not_shown(first: str, hint: str, tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_text(f"{first}\nBob Smith,7654321,flu\n")
    assert fault(str(tmp_path / "x.csv")).hint == hint


def test_a_name_that_a_first_patient_has_twice_is_not_shown(tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_text("Ada Okoro,Ada Okoro,gout\n")
    assert "Okoro" not in str(fault(str(tmp_path / "x.csv")))


def test_a_number_is_one_text_whatever_type_its_column_has(tmp_path: Path) -> None:
    values = [12345, 12345.0, Decimal("12345.00"), "12345", b"12345"]
    assert {text_of(value) for value in values} == {"12345"}
    assert [text_of(value) for value in (0.5, float("inf"), True)] == ["0.5", "inf", "True"]


def test_bytes_are_read_as_text_and_a_list_is_no_text(tmp_path: Path) -> None:
    def cases(text: Any, label: Any) -> str:
        table = pa.Table.from_pylist([{"text": text, "label": label}])
        pq.write_table(table, tmp_path / "x.parquet")
        return str(tmp_path / "x.parquet")

    case = next(read_cases(Source(source=cases(b"caf\xc3\xa9 secret", 1.0))))
    assert (case.text, case.label) == ("café secret", "1")
    for text in (["a secret"], {"a": "secret"}):
        assert "row 1 holds a list or an object in `text`" in fault(cases(text, 1)).message
    assert "row 1 holds bytes in `text` that are no UTF-8" in fault(cases(b"\xff secret", 1)).message


@pytest.mark.parametrize("label", [None, "", "  "])
def test_a_row_without_label_is_named(label: str | None, table: str) -> None:
    with Path(table).open("a") as stream:
        stream.write(json.dumps({**ROWS[0], "label": label, "mrn": "17"}) + "\n")
    assert fault(table).message == "site/x.jsonl line 4 (case site/x.jsonl:4) has no label"


def test_no_case_at_all_is_an_error_that_says_why(table: str, tmp_path: Path) -> None:
    error = fault(table, where={"site": "Z"})
    assert error.message.endswith("is left, all were dropped: where (3)")
    (tmp_path / "empty.jsonl").write_text("\n")
    assert fault(str(tmp_path / "empty.jsonl")).message.endswith("holds no cases")
    (tmp_path / "header.csv").write_text("text,label\n")
    assert fault(str(tmp_path / "header.csv")).message.endswith("holds no cases")


def test_rows_of_another_data_set_are_refused_without_their_text(tmp_path: Path) -> None:
    row = {"row_key": "1", "age": 3, "sex": "F", "label": "x", "evidences": "secret", "differential": [], "severity": 1}
    (tmp_path / "x.jsonl").write_text(json.dumps(row))
    assert "line 1 is not laid out as ddxplus" in fault(str(tmp_path / "x.jsonl"), format="ddxplus").message


@pytest.mark.parametrize("row", [{"text": "a \ud800", "label": "x"}, {"text": "a", "label": "x\udfff"}])
def test_half_a_character_is_named_by_line(row: dict[str, str], table: str) -> None:
    Path(table).write_text(json.dumps(row))
    assert fault(table).message.startswith("site/x.jsonl line 1 holds half a character")


def test_a_broken_row_is_named_by_file_and_line(tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_text("Which?,w,x,y,z,B\nWhich secret?,w,x,y,z,E\n")
    assert "x.csv line 2 `answer` is not one of" in fault(str(tmp_path / "x.csv"), format="mmlu").message


def test_data_without_labels_is_refused_for_classify(tmp_path: Path) -> None:
    row = {"source": "s", "focus": "f", "qid": "1", "question": "q", "answer": "a"}
    (tmp_path / "x.jsonl").write_text(json.dumps(row))
    source = str(tmp_path / "x.jsonl")
    assert "no label to classify" in fault(source, "classify", format="medquad").message
    assert len(list(read_cases(Source(source=source, format="medquad"), "generate"))) == 1


def test_built_in_patients_are_a_source(table: str) -> None:
    cases = list(read_cases(Source(source="builtin:patients/eval", limit=7)))
    assert len(cases) == 7
    assert fault("builtin:patients/test").hint.startswith("did you mean builtin:patients/")
    assert "no columns" in fault("builtin:patients/eval", where={"a": 1}).message
