"""The registry of formats: how a row of a known data set becomes a `Case`.

A row (a dict by column) flows in, a case flows out, or None where the data set's own rules forbid the row. Every
format states what must never reach a model. `columns` (see columns.py) takes any table by naming its columns.
"""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from distmed.cases.case import Case
from distmed.cases.columns import DEFAULT, by_columns, check_roles, labeled, parsed
from distmed.cases.demographics import age_in_years, sex_of
from distmed.cases.exams import head_qa, head_qa_rows, mmlu, pubmedqa, pubmedqa_rows
from distmed.cases.rows import Row, RowError, text_of, written
from distmed.errors import UserError
from distmed.recipe import Source


@dataclass(frozen=True)
class Format:
    """How to read one data set.

    A case returned with an empty `id` or `group` is named by its place in the file. `answers` are the columns of the
    label, which cases to be diagnosed or compared may lack. `drops` says why `to_case` returns None. `unnest`
    turns a file that is one JSON document into rows; `header` names the columns of a CSV that has no header line.
    """

    name: str
    columns: tuple[str, ...]
    never: str
    to_case: Callable[[Row], Case | None]
    labeled: bool = True
    answers: tuple[str, ...] = ()
    drops: str = ""
    unnest: Callable[[Any], Iterator[Row]] | None = None
    header: tuple[str, ...] | None = None


def format_of(source: Source, *, labeled: bool = True) -> Format:
    """The format that a recipe's source names; unless `labeled`, for rows that need not name anything to learn.

    Raises UserError for an unknown one, with the nearest there is.
    """
    if source.format not in FORMATS:
        near = difflib.get_close_matches(source.format, FORMATS, n=1)
        hint = f"did you mean `{near[0]}`?" if near else f"formats: {', '.join(FORMATS)}"
        raise UserError(f"unknown format: {source.format}", hint)
    if source.format == "columns":
        return _columns_format(check_roles(source.columns, labeled=labeled))
    if source.columns:
        raise UserError(
            f"format {source.format} has columns of its own", "leave `columns:` out, or write `format: columns`"
        )
    return FORMATS[source.format]


def format_to_compare(source: Source) -> Format:
    """The same format for rows of which only the wording counts: they owe no label, no answer, no id and no group."""
    format = format_of(source)
    if source.format != "columns":
        return dataclasses.replace(format, labeled=False)
    roles = check_roles(source.columns)
    asked = {role: column for role, column in roles.items() if role in ("text", "options", "messages")}
    answer = {role: column for role, column in roles.items() if role == "answer" and "options" not in roles}
    to_case = by_columns(asked | answer, answered=False)
    return dataclasses.replace(format, columns=tuple(asked.values()), to_case=to_case, labeled=False)


def _columns_format(roles: dict[str, str]) -> Format:
    answers = ("label", "label_name", *(("answer",) if "options" in roles else ()))
    return Format(
        name="columns",
        columns=tuple(dict.fromkeys(roles.values())),
        never="Only the columns named for text, options and messages are fed; no other column is.",
        to_case=by_columns(roles),
        labeled=labeled(roles),
        answers=tuple(roles[role] for role in answers if role in roles),
    )


def _phenopackets(row: Row) -> Case:
    return Case(
        id=text_of(row["case_id"]) or "",
        kind="diagnosis",
        group=text_of(row["pmid"]) or "",
        findings=_findings(row, "phenotypes"),
        excluded=_findings(row, "excluded"),
        sex=sex_of(row["sex"]),
        age_years=age_in_years(row["age"]),
        label=text_of(row["disease_id"]),
        label_name=text_of(row["disease"]),
    )


def _findings(row: Row, column: str) -> tuple[str, ...]:
    """A list of names; one name alone would fall into its letters."""
    names = parsed(row[column]) if row[column] else []
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise RowError(f"holds no list of findings in column `{column}`", 'write findings as a list: ["…", "…"]')
    return tuple(names)


_SECTIONS = {
    "fam/sochx": "family and social history",
    "genhx": "history of present illness",
    "pastmedicalhx": "past medical history",
    "cc": "chief complaint",
    "pastsurgical": "past surgical history",
    "allergy": "allergies",
    "ros": "review of systems",
    "medications": "medications",
    "assessment": "assessment",
    "exam": "physical examination",
    "diagnosis": "diagnosis",
    "disposition": "disposition",
    "plan": "plan",
    "edcourse": "emergency department course",
    "immunizations": "immunizations",
    "imaging": "imaging",
    "gynhx": "gynecologic history",
    "procedures": "procedures",
    "other_history": "other history",
    "labs": "laboratory results",
}


def _mts_dialog(row: Row) -> Case:
    dialogue = "\n".join(line.strip() for line in written(row, "dialogue").splitlines() if line.strip())
    section = text_of(row["section_header"])
    task = "Write what this conversation adds to the patient's clinical note."
    return Case(
        id="",
        kind="dialogue",
        group="",
        text=dialogue,
        label=section,
        label_name=_SECTIONS.get(section.lower(), section) if section else None,
        messages=(("user", f"{task}\n{dialogue}"), ("assistant", text_of(row["section_text"]) or "")),
    )


def _medquad(row: Row) -> Case:
    question = " ".join(written(row, "question").split())
    return Case(
        id="",
        kind="dialogue",
        group=text_of(row["focus"]) or f"{row['source']}-{row['qid']}",
        text=question,
        messages=(("user", question), ("assistant", text_of(row["answer"]) or "")),
        subgroups={"source": str(row["source"])},
    )


def _ddxplus(row: Row) -> Case:
    found, absent = [], []
    for question, answer in row["evidences"].items():
        if answer is None:
            continue
        answer = str(answer)
        if answer in ("False", "No"):
            absent.append(question)
        else:
            found.append(question if answer in ("True", "Yes") else f"{question} {answer}")
    return Case(
        id=text_of(row["row_key"]) or "",
        kind="diagnosis",
        group=text_of(row["row_key"]) or "",
        findings=tuple(found),
        excluded=tuple(absent),
        sex=sex_of(row["sex"]),
        age_years=age_in_years(row["age"]),
        label=text_of(row["label"]),
        label_name=text_of(row["label"]),
        differential=tuple((str(name), float(probability)) for name, probability in row["differential"] or ()),
        subgroups={} if row["severity"] is None else {"severity": str(row["severity"])},
    )


FORMATS: dict[str, Format] = {
    f.name: f
    for f in (
        Format(
            "phenopackets",
            ("case_id", "pmid", "sex", "age", "phenotypes", "excluded", "disease_id", "disease"),
            "Never the disease, its id, or the paper; keep splits apart by paper.",
            _phenopackets,
            answers=("disease_id", "disease"),
        ),
        Format(
            "pubmedqa",
            ("pmid", "QUESTION", "CONTEXTS", "LABELS", "final_decision"),
            "Never LONG_ANSWER, the conclusion that gives the answer away, nor the two reasoning_*_pred columns.",
            pubmedqa,
            answers=("final_decision",),
            unnest=pubmedqa_rows,
        ),
        Format(
            "head_qa",
            ("name", "category", "qid", "qtext", "ra", "answers", "image"),
            "Never `ra` (which counts from 1), and no question that needs its image.",
            head_qa,
            answers=("ra",),
            drops="question needs its image",
            unnest=head_qa_rows,
        ),
        Format(
            "mmlu",
            ("question", "A", "B", "C", "D", "answer"),
            "Never the answer column; these are test questions, so never train on them.",
            mmlu,
            answers=("answer",),
            header=("question", "A", "B", "C", "D", "answer"),
        ),
        Format(
            "mts_dialog",
            ("section_header", "section_text", "dialogue"),
            "Never the note (section_text) or its section with the dialogue: they are the answers.",
            _mts_dialog,
            answers=("section_header", "section_text"),
        ),
        Format(
            "medquad",
            ("source", "focus", "qid", "question", "answer"),
            "Never the answer with the question; keep splits apart by focus, since near duplicates share it.",
            _medquad,
            labeled=False,
            answers=("answer",),
        ),
        Format(
            "ddxplus",
            ("row_key", "age", "sex", "label", "evidences", "differential", "severity"),
            "Never the label in any language, its ICD-10 code, its severity, or the differential.",
            _ddxplus,
            answers=("label", "differential", "severity"),
        ),
        _columns_format(DEFAULT),
    )
}
