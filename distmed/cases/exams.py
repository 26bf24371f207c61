"""Exams: a row of a known set of exam questions becomes a `Case`: options and a letter, or yes, no or maybe.

Rows, or the document that holds them, flow in; cases flow out. Which columns are read, and what is never fed: formats.py.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from distmed.cases.case import Case
from distmed.cases.columns import LETTERS
from distmed.cases.rows import Row, RowError, text_of, written


def pubmedqa(row: Row) -> Case:
    sections = zip(row["LABELS"], row["CONTEXTS"], strict=True)
    abstract = "\n".join(f"{label.capitalize()}: {text}" for label, text in sections)
    decision = text_of(row["final_decision"])
    return Case(
        id=str(row["pmid"]),
        kind="choice",
        group=str(row["pmid"]),
        text=f"{abstract}\nQuestion (yes, no or maybe): {written(row, 'QUESTION')}",
        label=decision,
        label_name=decision,
    )


def pubmedqa_rows(document: dict[str, Row]) -> Iterator[Row]:
    for pmid, article in document.items():
        yield {"pmid": pmid, **article}


def head_qa(row: Row) -> Case | None:
    if row["image"]:
        return None
    answers = sorted(row["answers"], key=lambda answer: int(answer["aid"]))
    return Case(
        id=f"{row['name']}-{row['qid']}",
        kind="choice",
        group=str(row["name"]),
        text=written(row, "qtext"),
        options=tuple(written(answer, "atext") for answer in answers),
        **_lettered(_numbered(row["ra"], len(answers))),
        subgroups={"category": str(row["category"])},
    )


def head_qa_rows(document: dict[str, Any]) -> Iterator[Row]:
    for name, exam in document["exams"].items():
        for question in exam["data"]:
            yield {"name": name, "category": exam["category"], **question}


def _numbered(right_answer: Any, options: int) -> str | None:
    """The letter of a right answer that counts from 1."""
    number = text_of(right_answer)
    if number is None:
        return None
    if not number.isdigit() or not 1 <= int(number) <= options:
        raise RowError(
            "`ra` is not the number of one of its answers", "`ra` counts from 1; mend it or take the row out"
        )
    return LETTERS[int(number) - 1]


def mmlu(row: Row) -> Case:
    letter = text_of(row["answer"])
    if letter is not None and letter not in "ABCD":
        raise RowError("`answer` is not one of the letters A to D", "mend it or take the row out")
    return Case(
        id="",
        kind="choice",
        group="",
        text=written(row, "question"),
        options=tuple(written(row, option) for option in "ABCD"),
        **_lettered(letter),
    )


def _lettered(letter: str | None) -> dict[str, Any]:
    """A model answers a question by its letter alone, which is also what metrics compare."""
    return {"label": letter, "label_name": letter}
