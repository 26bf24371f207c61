"""Decontaminate: what shares 13 words or 64 characters with an evaluation set goes, and is listed by place."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

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
