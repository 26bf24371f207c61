"""Each format makes the right case of a row, and never lets through what gives the answer away."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from distmed.cases.case import Case
from distmed.cases.formats import FORMATS, format_of
from distmed.cases.prompts import Prompt
from distmed.cases.read import CaseReader
from distmed.cases.rows import RowError
from distmed.cases.sources import placed_rows
from distmed.errors import UserError
from distmed.recipe import Data, Source

SECRET = "QXZLEAK"

# A row of each format, in which every cell that must never be fed holds the secret.
ROWS: dict[str, dict[str, Any]] = {
    "phenopackets": {
        "case_id": f"PMID_1_{SECRET}",
        "pmid": f"PMID:{SECRET}",
        "sex": "FEMALE",
        "age": "P6Y",
        "phenotypes": ["Ataxia", "Seizure"],
        "excluded": ["Cataract"],
        "disease_id": f"OMIM:{SECRET}",
        "disease": f"{SECRET} syndrome",
    },
    "pubmedqa": {
        "pmid": SECRET,
        "QUESTION": "Does it help?",
        "CONTEXTS": ["We tried.", "It was so."],
        "LABELS": ["METHODS", "RESULTS"],
        "MESHES": [SECRET],
        "reasoning_required_pred": SECRET,
        "reasoning_free_pred": SECRET,
        "final_decision": SECRET,
        "LONG_ANSWER": f"It helps. {SECRET}",
    },
    "head_qa": {
        "name": f"exam-{SECRET}",
        "category": SECRET,
        "qid": "7",
        "qtext": "Which one?",
        "ra": "2",
        "answers": [{"aid": 2, "atext": "this"}, {"aid": 1, "atext": "that"}, {"aid": 3, "atext": "other"}],
        "image": "",
    },
    "mmlu": {"question": "Which?", "A": "w", "B": "x", "C": "y", "D": "z", "answer": "C"},
    "mts_dialog": {
        "ID": SECRET,
        "section_header": SECRET,
        "section_text": f"Note {SECRET}.",
        "dialogue": "Doctor: Hello? \r\nPatient: It hurts.\r\n",
    },
    "medquad": {
        "source": SECRET,
        "focus": SECRET,
        "qid": SECRET,
        "qtype": SECRET,
        "question": "What is it ?",
        "answer": f"It is {SECRET}.",
    },
    "ddxplus": {
        "row_key": SECRET,
        "age": 67,
        "sex": "F",
        "label": SECRET,
        "label_fr": SECRET,
        "icd10": SECRET,
        "severity": SECRET,
        "evidences": {"Do you cough?": "True", "Where is the pain?": "chest", "Do you smoke?": "No", "Unasked?": None},
        "differential": [[SECRET, 0.7], ["Bronchitis", 0.3]],
    },
    "columns": {"text": "A man coughs.", "label": SECRET, "note": SECRET},
}


def case_of(name: str, **changes: Any) -> Case:
    case = FORMATS[name].to_case({**ROWS[name], **changes})
    assert case is not None
    return case


def prompt(task: Any = "classify", **data: Any) -> Prompt:
    return Prompt(task, Data(train=[Source(source="x")], **data))


@pytest.mark.parametrize("name", FORMATS)
def test_what_must_never_be_fed_is_in_no_prompt(name: str) -> None:
    case = case_of(name)
    asked = prompt("generate").messages(case)
    assert asked[-1]["role"] == "assistant"
    assert SECRET not in prompt().text(case)
    assert all(SECRET not in message["content"] for message in asked[:-1])
    assert prompt().text(case), "an empty text leaks nothing either"


@pytest.mark.parametrize("name", FORMATS)
def test_a_format_states_what_must_never_be_fed_and_asks_for_what_it_reads(name: str) -> None:
    format = FORMATS[name]
    assert format.never.endswith(".")
    needed = {column: ROWS[name][column] for column in format.columns}
    assert format.to_case(needed) == case_of(name), "a column that is read is missing from `columns`"


@pytest.mark.parametrize("column", ["phenotypes", "excluded"])
@pytest.mark.parametrize(
    ("cell", "found"),
    [(["Ataxia"], ("Ataxia",)), ('["Ataxia", "Seizure"]', ("Ataxia", "Seizure")), (None, ()), ("", ()), ([], ()),
     ("Seizure", None), ([None], None), ({"Ataxia": True}, None), ('"Ataxia"', None)],
)  # fmt: skip
def test_findings_are_a_list_of_names_or_refused(column: str, cell: object, found: tuple[str, ...] | None) -> None:
    row = {**ROWS["phenopackets"], column: cell}
    if found is None:
        with pytest.raises(RowError, match=f"no list of findings in column `{column}`"):
            FORMATS["phenopackets"].to_case(row)
    else:
        case = FORMATS["phenopackets"].to_case(row)
        assert case is not None and (case.findings if column == "phenotypes" else case.excluded) == found


@pytest.mark.parametrize(("format", "names"), [("phenopackets", ("case_id", "pmid")), ("ddxplus", ("row_key",))])
def test_a_case_without_an_id_is_named_by_its_place(format: str, names: tuple[str, ...], tmp_path: Path) -> None:
    row = {**ROWS[format], **dict.fromkeys(names)}
    (tmp_path / "x.jsonl").write_text("\n".join([json.dumps(row)] * 2))
    cases = list(CaseReader(Source(source=str(tmp_path / "x.jsonl"), format=format)))
    places = [f"{tmp_path.name}/x.jsonl:{n}" for n in (1, 2)]
    assert [case.id for case in cases] == [case.group for case in cases] == places


def test_phenopackets_keep_findings_apart_and_group_by_paper() -> None:
    case = case_of("phenopackets")
    assert (case.findings, case.excluded) == (("Ataxia", "Seizure"), ("Cataract",))
    assert (case.sex, case.age_years) == ("female", 6.0)
    assert (case.group, case.label, case.label_name) == (f"PMID:{SECRET}", f"OMIM:{SECRET}", f"{SECRET} syndrome")


def test_pubmedqa_feeds_the_sections_of_the_abstract_and_the_question() -> None:
    case = case_of("pubmedqa", final_decision="maybe")
    assert case.text == "Methods: We tried.\nResults: It was so.\nQuestion (yes, no or maybe): Does it help?"
    assert case.label == "maybe"


def test_head_qa_counts_right_answers_from_1_and_orders_options_by_number() -> None:
    case = case_of("head_qa")
    assert case.options == ("that", "this", "other")
    assert case.label == "B"


def test_head_qa_drops_a_question_that_needs_its_image() -> None:
    assert FORMATS["head_qa"].to_case({**ROWS["head_qa"], "image": "./data/x.png"}) is None


@pytest.mark.parametrize("ra", ["0", "4", "B"])
def test_head_qa_refuses_a_right_answer_that_is_no_number_of_an_answer(ra: str) -> None:
    with pytest.raises(RowError, match="ra"):
        case_of("head_qa", ra=ra)


def test_mmlu_answers_with_a_letter() -> None:
    case = case_of("mmlu")
    assert (case.options, case.label) == (("w", "x", "y", "z"), "C")
    with pytest.raises(RowError):
        case_of("mmlu", answer="E")


def test_mts_dialog_classifies_the_section_and_generates_the_note() -> None:
    case = case_of("mts_dialog", section_header="GENHX", section_text="It hurts.")
    assert case.text == "Doctor: Hello?\nPatient: It hurts."
    assert (case.label, case.label_name) == ("GENHX", "history of present illness")
    assert case.messages[-1] == ("assistant", "It hurts.")


@pytest.mark.parametrize(
    ("name", "column", "value"),
    [
        ("pubmedqa", "QUESTION", None),
        ("head_qa", "qtext", None),
        ("head_qa", "answers", [{"aid": 1, "atext": "this"}, {"aid": 2, "atext": None}]),
        ("mmlu", "question", " "),
        ("mmlu", "D", None),
        ("mts_dialog", "dialogue", None),
        ("medquad", "question", None),
    ],
)
def test_a_cell_without_text_is_no_question_about_the_word_none(name: str, column: str, value: Any) -> None:
    with pytest.raises(RowError, match="has nothing in"):
        case_of(name, **{column: value})


def test_medquad_is_a_question_with_an_answer_grouped_by_focus() -> None:
    case = case_of("medquad", focus="Gout")
    assert case.messages == (("user", "What is it ?"), ("assistant", f"It is {SECRET}."))
    assert case.group == "Gout"
    assert case_of("medquad", focus="", source="NIH", qid="1-2").group == "NIH-1-2"


def test_ddxplus_turns_questions_and_answers_into_findings() -> None:
    case = case_of("ddxplus")
    assert case.findings == ("Do you cough?", "Where is the pain? chest")
    assert case.excluded == ("Do you smoke?",)
    assert case.differential == ((SECRET, 0.7), ("Bronchitis", 0.3))


def test_an_unknown_format_names_the_nearest() -> None:
    with pytest.raises(UserError) as error:
        format_of(Source(source="x", format="phenopacket"))
    assert error.value.hint == "did you mean `phenopackets`?"


def test_columns_are_refused_where_the_format_has_its_own() -> None:
    with pytest.raises(UserError, match="columns of its own"):
        format_of(Source(source="x", format="mmlu", columns={"text": "question"}))


REAL = {
    "phenopackets": ("phenopackets/train.jsonl", 8310, {}),
    "pubmedqa": ("pubmedqa/train.json", 500, {}),
    "head_qa": ("head_qa/dev_HEAD_EN.json", 1336, {"question needs its image": 30}),
    "mmlu": ("mmlu_medical/*.csv", 365, {}),
    "mts_dialog": ("mts_dialog/MTS-Dialog-TrainingSet.csv", 1201, {}),
    "medquad": ("medquad/medquad.jsonl", 16407, {}),
    "ddxplus": ("ddxplus/ddxplus_fewshot_98_en.jsonl", 98, {}),
}


@pytest.mark.parametrize("name", REAL)
def test_every_row_of_the_real_data_becomes_a_case_of_its_own(name: str, shared_data: Path) -> None:
    path, rows, dropped = REAL[name]
    reader = CaseReader(Source(source=f"{shared_data}/{path}", format=name))
    cases = list(reader)
    assert (len(cases), dict(reader.dropped)) == (rows, dropped)
    assert len({case.id for case in cases}) == rows
    assert all(case.group and prompt().text(case) for case in cases)
    assert all(Case.from_row(case.to_row()) == case for case in cases[:50])


def test_real_phenopackets_never_tell_the_disease(shared_data: Path) -> None:
    for case in CaseReader(Source(source=f"{shared_data}/phenopackets", format="phenopackets")):
        text = prompt().text(case).lower()
        assert case.label and case.label_name
        assert case.label.lower() not in text
        assert not re.search(rf"\b{re.escape(case.label_name.lower())}\b", text), f"{case.id} tells its disease"


def test_real_abstracts_never_tell_the_long_answer(shared_data: Path) -> None:
    source = Source(source=f"{shared_data}/pubmedqa/train.json", format="pubmedqa")
    for case, (_, row) in zip(CaseReader(source), placed_rows(source, format_of(source)), strict=True):
        assert row["LONG_ANSWER"] not in prompt("generate").messages(case)[0]["content"]
