"""`--columns ROLE=COLUMN` of evaluate and predict: a raw table is read as it is, with its ids, patients and subgroups."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from distmed.evaluate import command, predict
from distmed.evaluate.loading import Opened
from distmed.evaluate.reading import read_source
from distmed.evaluate.sources import sources_of
from tests.evaluate.conftest import LABELS
from tests.evaluate.door import Door

ROLES = ("text=note", "label=icd10", "id=visit", "group=patient", "sex=gender", "subgroup.site=ward")


def columns(*roles: str) -> list[str]:
    return [word for role in roles for word in ("--columns", role)]


def write_table(path: Path, visits: int = 60, first: int = 0) -> Path:
    """Three visits a patient, in four wards; the note tells the diagnosis."""
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["visit", "patient", "note", "icd10", "gender", "ward"])
        for n in range(first, first + visits):
            note = f"finding {n % 4} {n % 7}; finding {n % 4} {n % 11} seen on day {n}"
            writer.writerow([f"visit-{n}", f"patient-{n // 3}", note, LABELS[n % 4], "FM"[n % 2], f"ward {n % 3}"])
    return path


def prepared(door: Door, table: Path) -> Path:
    out = table.with_suffix("")
    door.run("prepare", table, *columns(*ROLES), "--no-deidentify", "--num-workers", "1", "--out", out)
    return out


def asked(door: Door, verb: str, data: Path, *words: object) -> tuple[object, ...]:
    return (verb, "no-model", "--data", data, "--out", door.folder / "new" / "answers.csv", *words)


def refuse(door: Door, *words: object) -> tuple[str, str]:
    """As the door does; and no file came or went."""
    before = sorted(door.folder.rglob("*"))
    told = door.refuse(*words)
    assert sorted(door.folder.rglob("*")) == before
    return told


@pytest.mark.parametrize("verb", ["evaluate", "predict"])
@pytest.mark.parametrize(
    ("words", "error", "fix"),
    [
        (columns("txt=note", "label=icd10"), "columns: unknown role `txt`", "did you mean `text`?"),
        (columns("text"), "--columns text is not ROLE=COLUMN", "write --columns ROLE=COLUMN, once for each"),
        (columns("text="), "--columns text= is not ROLE=COLUMN", "write --columns ROLE=COLUMN, once for each"),
        (columns("label=icd10"), "columns: neither `text` nor `messages` is named", "name a column for one of them"),
        (
            columns("text=notes", "label=icd10"),
            "/dev.csv line 2 lacks the column notes",
            "there are: visit, patient, note, icd10, gender, ward",
        ),
        (
            [*columns("text=note", "label=icd10"), "--format", "phenopackets"],
            "format phenopackets has columns of its own",
            "leave `columns:` out, or write `format: columns`",
        ),
    ],
)
def test_roles_that_do_not_fit_are_refused(
    door: Door, tmp_path: Path, verb: str, words: list[str], error: str, fix: str
) -> None:
    dev = write_table(tmp_path / "dev.csv", 6)
    wrong, mend = refuse(door, *asked(door, verb, dev, *words))
    assert wrong.endswith(error) and mend == fix


def test_what_is_to_be_measured_needs_a_diagnosis(door: Door, tmp_path: Path) -> None:
    dev = write_table(tmp_path / "dev.csv", 6)
    error, _ = refuse(door, *asked(door, "evaluate", dev, *columns("text=note", "id=visit")))
    assert error == "columns: nothing to learn is named"


@pytest.mark.parametrize("verb", ["evaluate", "predict"])
def test_columns_that_no_source_takes_are_refused(door: Door, tmp_path: Path, verb: str) -> None:
    done = prepared(door, write_table(tmp_path / "dev.csv", 12))
    error, fix = refuse(door, *asked(door, verb, done, *columns(*ROLES)))
    assert error == f"{done} is no raw table: --columns has no effect on it" and "leave --columns out" in fix


def test_roles_are_those_of_the_tables_and_a_prepared_folder_is_read_as_it_is(door: Door, tmp_path: Path) -> None:
    dev, split = write_table(tmp_path / "dev.csv", 6), prepared(door, write_table(tmp_path / "split.csv", 12, 600))
    names = {"data": str(dev), "train": "builtin:patients/eval", "calibration": str(split)}
    read = {what: read_source(source, tmp_path / "cache") for what, source in sources_of(names, None, ROLES).items()}
    case = read["data"].cases[4]
    assert (case.id, case.group, case.label) == ("visit-4", "patient-1", LABELS[0])
    assert case.subgroups == {"sex": "female", "site": "ward 1"}
    assert {case.group for case in read["calibration"].cases} == {f"patient-{n}" for n in range(200, 204)}
    assert len(read["train"].cases) == 600


@pytest.fixture
def opened(door: Door, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A classifier that says the same of everybody."""

    def open_model(name: str, *_: object) -> Opened:
        recipe: Any = None
        return Opened(name, tmp_path, None, "classify", LABELS, LABELS, recipe, "hash", "llama", False)

    class Same:
        def __init__(self, *_: object, **__: object) -> None: ...

        def __enter__(self) -> Same:
            return self

        def __exit__(self, *_: object) -> None: ...

        def score(self, cases: list[Any], doing: str) -> pa.Table:
            return pa.table({"scores": [[0.4, 0.3, 0.2, 0.1]] * len(cases), "cut": [False] * len(cases)})

    for module in (command, predict):
        monkeypatch.setattr(module, "open_model", open_model)
    monkeypatch.setattr(predict, "Pool", Same)


@pytest.mark.usefixtures("opened")
@pytest.mark.parametrize("raw", [True, False])
def test_patients_of_the_calibration_split_are_found_in_the_data(door: Door, tmp_path: Path, raw: bool) -> None:
    dev, split = write_table(tmp_path / "dev.csv", 12), write_table(tmp_path / "split.csv", 12, 6)
    words = asked(door, "evaluate", dev, "--calibration", split if raw else prepared(door, split), *columns(*ROLES))
    assert door.refuse(*words)[0] == "2 groups (papers, patients) of --calibration are in --data, too"


@pytest.mark.usefixtures("opened")
@pytest.mark.parametrize(
    "roles",
    [(), ("label=icd10", "label_name=name"), ("options=choices",), ("options=choices", "answer=letter")],
    ids=["text and id", "label", "options", "answer"],
)
def test_who_is_to_be_diagnosed_needs_no_column_of_the_diagnosis(
    door: Door, tmp_path: Path, roles: tuple[str, ...]
) -> None:
    rows = [{"visit": f"visit-{n}", "note": f"fever, day {n}", "choices": ["flu", "gout"]} for n in range(3)]
    (tmp_path / "new.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    out = tmp_path / "answers.jsonl"
    words = ("--data", tmp_path / "new.jsonl", "--out", out, *columns("text=note", "id=visit", *roles))
    door.run("predict", "model", *words)
    answers = [json.loads(line) for line in out.read_text().splitlines()]
    assert [(row["case_id"], row["predicted"]) for row in answers] == [(f"visit-{n}", LABELS[0]) for n in range(3)]


@pytest.mark.slow
def test_ids_patients_and_subgroups_reach_the_evidence(door: Door, tiny: Any, tmp_path: Path) -> None:
    dev, split = write_table(tmp_path / "dev.csv"), prepared(door, write_table(tmp_path / "split.csv", 60, 600))
    train = write_table(tmp_path / "train.csv", 60, 57)
    words = ("--calibration", split, "--train", train, *columns(*ROLES))
    metrics = door.evaluate(tiny("classify"), dev, *words)
    assert metrics["about"]["data"]["groups"] == metrics["about"]["calibration"]["groups"] == 20
    assert any(note.startswith("1 groups (papers, patients) of the data are in the train") for note in metrics["notes"])
    assert metrics["macro_f1"]["method"] == "bootstrap by group, 1000 draws" and metrics["top1"]["cluster_method"]
    assert [group["value"] for group in metrics["subgroups"]["site"]["groups"]] == ["ward 0", "ward 1", "ward 2"]
    found = pq.read_table(door.out / "predictions.parquet").to_pylist()
    assert [(row["case_id"], row["group"]) for row in found] == [(f"visit-{n}", f"patient-{n // 3}") for n in range(60)]
    assert [row["site"] for row in found] == [f"ward {n % 3}" for n in range(60)]
    shown = (door.out / "report.html").read_text() + (door.out / "metrics.json").read_text()
    assert "visit-" not in shown and "patient-" not in shown and "ward 2" in shown
    out = tmp_path / "answers.csv"
    words = ("--calibration", door.out, "--out", out, *columns("text=note", "id=visit"))
    door.run("predict", tiny("classify"), "--data", dev, *words)
    answers = list(csv.DictReader(out.open()))
    assert [(row["case_id"], row["predicted"]) for row in answers] == [(r["case_id"], r["predicted"]) for r in found]
