"""Decontaminate: what shares 13 words or 64 characters with an evaluation set goes, and is listed by place."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from distmed.cases.synthetic import patients
from distmed.prepare.wording import character_runs, word_runs
from tests.prepare.conftest import Prepared, PrepareDoor, note

Table = Callable[..., Path]


def run(
    prepare: PrepareDoor, table: Table, train: list[str], evaluation: list[str], out: Path, *more: str
) -> tuple[Prepared, list[dict[str, Any]]]:
    without = table([{"text": text, "label": "E"} for text in evaluation], "evaluation.jsonl")
    source = table([{"text": text, "label": "D"} for text in train])
    done = prepare(source, "--no-deidentify", "--no-deduplicate", "--without", without, *more, out=out)
    return done, [json.loads(line) for line in (out / "overlaps.jsonl").read_text().splitlines()]


def test_thirteen_words_in_a_row_are_a_hit_and_twelve_are_not(
    prepare: PrepareDoor, table: Table, tmp_path: Path
) -> None:
    short = list("abcdefghijklmnopqrstuvwxyz")  # words of one letter: under 64 characters
    evaluation = [" ".join(short)]
    train = [
        f"{note(1)} {' '.join(short[3:16])} {note(2)}",
        f"{note(3)} {' '.join(short[3:15])} {note(4)}",
    ]
    done, listed = run(prepare, table, train, evaluation, tmp_path / "out")
    assert [case.text for case in done.cases()] == train[1:]
    folder = tmp_path.name
    assert listed == [
        {"case": f"{folder}/notes.jsonl:1", "rule": "13 words", "evaluation": f"{folder}/evaluation.jsonl:1"}
    ]
    assert done.report["dropped"] == {"decontaminate": {"13 words": 1}}


def test_sixty_four_characters_in_a_row_are_a_hit_and_sixty_three_are_not(
    prepare: PrepareDoor, table: Table, tmp_path: Path
) -> None:
    long = "pneumonoultramicroscopicsilicovolcanoconiosis hypothyroidism pseudohypoparathyroidism"  # three words
    train = [f"x {long[:64]}", f"x {long[:63]}"]
    done, listed = run(prepare, table, train, [long], tmp_path / "out")
    assert [case.text for case in done.cases()] == train[1:]
    assert listed[0]["rule"] == "64 characters"


def test_case_marks_and_layout_do_not_hide_an_overlap(prepare: PrepareDoor, table: Table, tmp_path: Path) -> None:
    done, listed = run(
        prepare, table, [note(1).upper().replace(" ", ",\n ") + "!", note(2)], [note(1)], tmp_path / "out"
    )
    assert [case.text for case in done.cases()] == [note(2)] and len(listed) == 1


@pytest.mark.parametrize("more", [(), ("--no-clean",)])
def test_broken_characters_do_not_hide_an_overlap(
    prepare: PrepareDoor, table: Table, tmp_path: Path, more: tuple[str, ...]
) -> None:
    broken = "What causes Sj\u00f6gren's na\u00efve dry\u00adness?".encode().decode("latin-1")
    done, listed = run(prepare, table, [broken, "What causes gout?"], [broken], tmp_path / "out", *more)
    assert [case.text for case in done.cases()] == ["What causes gout?"] and len(listed) == 1


def test_a_short_question_is_compared_as_a_whole(prepare: PrepareDoor, table: Table, tmp_path: Path) -> None:
    train = ["What causes gout?", "What causes gout in a knee?"]
    done, listed = run(prepare, table, train, ["what causes GOUT"], tmp_path / "out")
    assert [case.text for case in done.cases()] == train[1:] and listed[0]["rule"] == "whole text"


def test_phrases_of_the_data_set_are_no_overlap(prepare: PrepareDoor, table: Table, tmp_path: Path) -> None:
    phrase = (
        "the following question is taken from an examination of the national board of medical examiners please answer"
    )
    evaluation = [f"{phrase} {note(n)}" for n in range(12)]
    done, _ = run(prepare, table, [f"{phrase} {note(100)}", f"{phrase} {note(3)}"], evaluation, tmp_path / "out")
    assert [case.text for case in done.cases()] == [f"{phrase} {note(100)}"]
    assert done.report["boilerplate"] > 0


def test_patients_of_the_evaluation_set_are_found_by_all_their_findings(
    prepare: PrepareDoor, table: Table, tmp_path: Path
) -> None:
    def row(id: str, findings: list[str]) -> dict[str, Any]:
        return {"case_id": id, "pmid": id, "sex": None, "age": None, "phenotypes": findings, "excluded": [], "disease_id": "D",
                "disease": "d"}  # fmt: skip

    many = [f"finding {n}" for n in range(9)]
    without = table([row("e", many), row("f", ["Seizure"])], "evaluation.jsonl")
    source = table([row("a", many[::-1]), row("b", many[:8]), row("c", ["Seizure"])])
    done = prepare(source, "--no-deidentify", "--format", "phenopackets", "--without", without, out=tmp_path / "out")
    assert [case.id for case in done.cases()] == ["b", "c"]
    assert "evaluation.jsonl: 1 of 2 rows not compared: no text, and under 8 findings" in done.said


def test_answers_and_options_count_as_text(prepare: PrepareDoor, table: Table, tmp_path: Path) -> None:
    rows = [{"q": "Why?", "a": note(1)}, {"q": "How?", "a": note(2)}]
    roles = ("--columns", "text=q", "--columns", "answer=a", "--no-deidentify")
    without = table([{"q": "What then?", "a": note(2)}], "evaluation.jsonl")
    done = prepare(table(rows), *roles, "--without", without, out=tmp_path / "out")
    assert [case.text for case in done.cases()] == ["Why?"]


def test_an_evaluation_set_of_another_format_and_a_prepared_one(
    prepare: PrepareDoor, table: Table, tmp_path: Path
) -> None:
    exam = tmp_path / "exam.csv"
    exam.write_text(f'"{note(1)}",one,two,three,four,A\n')
    source = table([{"text": note(n), "label": "D"} for n in (1, 2, 3)])
    done = prepare(source, "--no-deidentify", "--without", exam, "--without-format", "mmlu", out=tmp_path / "a")
    assert [case.text for case in done.cases()] == [note(2), note(3)]
    prepared = prepare(
        table([{"text": note(3), "label": "E"}], "e.jsonl"), "--no-deidentify", out=tmp_path / "e"
    ).folder
    done = prepare(
        source,
        "--no-deidentify",
        "--without",
        prepared,
        "--without",
        exam,
        "--without-format",
        "mmlu",
        out=tmp_path / "b",
    )
    assert [case.text for case in done.cases()] == [note(2)]


def test_a_note_is_found_in_a_folder_in_which_its_identifiers_were_replaced(
    deidentifier: object, prepare: PrepareDoor, table: Table, tmp_path: Path
) -> None:
    """Only what stands between the identifiers is the same: under 13 words and 64 characters each."""
    text = "Mr. Okoro, MRN 1234567, came on 3/4/2021. " + ", ".join(f"on {n}/7/2021 fever" for n in range(1, 9))
    exam = prepare(table([{"text": text, "label": "E"}], "exam.jsonl"), out=tmp_path / "exam").folder
    source = table([{"text": t, "label": "D"} for t in (text, note(2))])
    assert texts(prepare(source, "--without", exam, out=tmp_path / "out")) == [note(2)]


def texts(done: Prepared) -> list[str]:
    return [case.text for case in done.cases()]


def test_an_evaluation_set_needs_no_labels(prepare: PrepareDoor, table: Table, tmp_path: Path) -> None:
    source = table([{"text": note(n), "label": "D", "site": "A"} for n in range(4)])
    bare = table([{"text": note(1)}], "bare.jsonl")
    half = table([{"text": note(2), "label": None}, {"text": note(3), "label": "E"}, {"text": ""}], "half.jsonl")
    without = ("--without", bare, "--without", half)
    done = prepare(source, "--no-deidentify", "--columns", "text=text", "--columns", "label=label", "--columns",
                   "group=site", *without, out=tmp_path / "out")  # fmt: skip
    assert texts(done) == [note(0)]
    assert "half.jsonl: 1 of 3 rows not compared: empty text" in done.said


def test_questions_and_dialogues_without_an_answer_are_compared(
    prepare: PrepareDoor, table: Table, tmp_path: Path
) -> None:
    def without(rows: list[dict[str, Any]], *roles: str, format: str = "columns") -> list[str]:
        columns = [word for role in roles for word in ("--columns", role)]
        evaluation = table(rows, f"{format}-{len(roles)}-e.jsonl")
        out = tmp_path / f"out-{evaluation.name}"
        more = ("--no-deidentify", *columns, "--without", evaluation, "--without-format", format)
        return texts(prepare(table(training), *more, out=out))

    training: list[dict[str, Any]] = [{"q": note(n), "a": "yes", "options": ["yes", "no"]} for n in (1, 2)]
    assert without([{"q": note(1)}], "text=q", "answer=a") == [note(2)]
    assert without([{"q": note(1), "options": ["no", "yes"]}], "text=q", "options=options", "answer=a") == [note(2)]
    chats = [[{"role": "user", "content": note(n)}, {"role": "assistant", "content": "yes"}] for n in (1, 2)]
    training = [{"m": chat} for chat in chats]
    assert without([{"m": chats[0][:1]}], "messages=m") == [note(2)]
    training = [{"text": note(n), "label": "D"} for n in (1, 2)]
    assert without([{"question": note(1), **dict.fromkeys("ABCD", "x")}], format="mmlu") == [note(2)]


@pytest.mark.parametrize(
    ("rows", "format"),
    [([{"text": ""}, {"text": "?!"}], "columns"), ([], "columns"),
     ([dict.fromkeys(("case_id", "pmid", "sex", "age")) | {"phenotypes": ["Seizure"], "excluded": []}], "phenopackets")],
)  # fmt: skip
def test_an_evaluation_set_of_which_nothing_can_be_compared_is_refused(
    prepare: PrepareDoor, table: Table, tmp_path: Path, rows: list[dict[str, Any]], format: str
) -> None:
    without = table(rows, "evaluation.jsonl")
    more = ("--no-deidentify", "--without", without, "--without-format", format, "--without", "builtin:patients/eval")
    refused = prepare.refuse(table([{"text": note(1), "label": "D"}]), *more, out=tmp_path / "out")
    assert "evaluation.jsonl: none of its cases can be compared" in refused.message


LETTERED = "Which drug lowers urate?\nA) colchicine\nB) allopurinol\nC) prednisone\nD) ibuprofen"
QUESTION = {"text": "Which drug lowers urate?", "options": ["colchicine", "allopurinol", "prednisone", "ibuprofen"]}


def test_a_question_is_found_with_and_without_the_letters_of_its_options(
    prepare: PrepareDoor, table: Table, tmp_path: Path
) -> None:
    bare = "\n".join([str(QUESTION["text"]), *QUESTION["options"]])
    rows = [{"text": text, "label": "B"} for text in (LETTERED, bare, LETTERED.replace("urate", "uric acid"))]
    exam = tmp_path / "exam.csv"
    exam.write_text(",".join([str(QUESTION["text"]), *QUESTION["options"], "B"]) + "\n")
    more = ("--no-deidentify", "--without", exam, "--without-format", "mmlu")
    assert texts(prepare(table(rows), *more, out=tmp_path / "a")) == [rows[2]["text"]]
    roles = ("--columns", "text=text", "--columns", "options=options", "--columns", "answer=answer")
    asked = table([{**QUESTION, "answer": "B"}, {**QUESTION, "text": "Which does not?", "answer": "A"}], "asked.jsonl")
    lettered = table([{"text": LETTERED, "options": ["yes", "no"]}], "lettered.jsonl")
    done = prepare(asked, "--no-deidentify", *roles, "--without", lettered, out=tmp_path / "b")
    assert texts(done) == ["Which does not?"]


def test_what_the_user_says_is_compared_beside_a_text_of_its_own(
    prepare: PrepareDoor, table: Table, tmp_path: Path
) -> None:
    rows = [
        {"t": f"topic {n}", "m": [{"role": "user", "content": note(n)}, {"role": "assistant", "content": "rest"}]}
        for n in (1, 2)
    ]
    roles = ("--no-deidentify", "--columns", "text=t", "--columns", "messages=m")
    without = table([{"t": "another", "m": rows[0]["m"]}], "evaluation.jsonl")
    assert texts(prepare(table(rows), *roles, "--without", without, out=tmp_path / "out")) == ["topic 2"]


def test_a_patient_with_a_vignette_is_found_by_the_findings_too(
    prepare: PrepareDoor, table: Table, tmp_path: Path
) -> None:
    patient = next(case for case in patients("eval", 50) if len(case.findings) + len(case.excluded) >= 8)
    row = {"case_id": "a", "pmid": "a", "sex": None, "age": None, "phenotypes": patient.findings,
           "excluded": patient.excluded, "disease_id": "D", "disease": "d"}  # fmt: skip
    source = table([row, row | {"case_id": "b", "phenotypes": ["Seizure"]}])
    more = ("--no-deidentify", "--format", "phenopackets", "--without", "builtin:patients/eval")
    assert [case.id for case in prepare(source, *more, out=tmp_path / "out").cases()] == ["b"]


@pytest.mark.parametrize("length", [1, 5, 13])
def test_runs_are_equal_exactly_where_the_words_are(length: int) -> None:
    words = np.random.default_rng(3).integers(0, 4, 400).astype(str).tolist()
    hashes = word_runs(words, length)
    runs = [tuple(words[i : i + length]) for i in range(len(words) - length + 1)]
    assert len(hashes) == len(runs)
    assert len(set(hashes.tolist())) == len(set(runs))
    for run, value in zip(runs, hashes.tolist(), strict=True):
        assert value == hashes[runs.index(run)]


def test_characters_beyond_ascii_have_runs_too() -> None:
    assert character_runs("ä" * 63, 64).size == 0
    assert len(set(character_runs("äöü" * 30, 64).tolist())) == 3
