"""Any table becomes cases by naming its columns."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from distmed.cases.case import Case
from distmed.cases.formats import format_of
from distmed.cases.rows import RowError
from distmed.errors import UserError
from distmed.recipe import Source


def case_of(row: dict[str, Any], **columns: str) -> Case:
    case = format_of(Source(source="x", columns=columns)).to_case(row)
    assert case is not None
    return case


def test_every_role_reaches_its_field() -> None:
    row = {"note": "A cough.", "icd": "J45", "name": "asthma", "mrn": 7, "site": "B", "g": "F", "y": "P5Y", "eth": "x"}
    case = case_of(
        row,
        **{"text": "note", "label": "icd", "label_name": "name", "id": "mrn", "group": "site", "sex": "g", "age": "y"},
        **{"subgroup.ethnicity": "eth"},
    )
    assert case == Case(
        id="7",
        kind="diagnosis",
        group="B",
        text="A cough.",
        sex="female",
        age_years=5.0,
        label="J45",
        label_name="asthma",
        subgroups={"ethnicity": "x"},
    )


def test_text_and_label_are_the_roles_if_none_is_named() -> None:
    case = case_of({"text": "A cough.", "label": 3})
    assert (case.text, case.label, case.label_name) == ("A cough.", "3", "3")


@pytest.mark.parametrize("answer", ["B", "b", "this"])
@pytest.mark.parametrize("options", [["that", "this"], '["that", "this"]'])
def test_a_choice_is_answered_by_letter_or_by_the_options_text(options: object, answer: str) -> None:
    case = case_of({"q": "Which?", "o": options, "a": answer}, text="q", options="o", answer="a")
    assert (case.kind, case.options, case.label, case.label_name) == ("choice", ("that", "this"), "B", "B")


@pytest.mark.parametrize(
    ("options", "answer"), [(["a", "b"], "1"), (["a", "b"], "C"), ("a|b", "A"), (["a"], "A"), (None, "A")]
)
def test_a_choice_that_cannot_be_told_is_refused(options: object, answer: str) -> None:
    with pytest.raises(RowError):
        case_of({"q": "Which?", "o": options, "a": answer}, text="q", options="o", answer="a")


@pytest.mark.parametrize(("answer", "label"), [("A", "A"), ("B", "B"), ("C", None), ("b", None), ("0", "D")])
def test_a_letter_that_is_also_another_options_text_is_refused(answer: str, label: str | None) -> None:
    row = {"q": "Which blood group?", "o": ["A", "C", "b", "0"], "a": answer}
    roles = {"text": "q", "options": "o", "answer": "a"}
    if label is None:
        with pytest.raises(RowError, match="also the text of another option"):
            case_of(row, **roles)
    else:
        assert case_of(row, **roles).label == label


def test_messages_pass_through_and_the_question_is_the_text() -> None:
    messages = [{"role": "user", "content": "Why?"}, {"role": "assistant", "content": "So."}]
    case = case_of({"m": messages}, messages="m")
    assert (case.kind, case.text, case.messages) == ("dialogue", "Why?", (("user", "Why?"), ("assistant", "So.")))


@pytest.mark.parametrize(
    "messages",
    [
        None,
        [],
        "not json",
        [{"role": "user", "content": "Why?"}],
        [{"role": "user", "content": "Why?"}, {"role": "assistant", "content": " "}],
        [{"role": "robot", "content": "Why?"}, {"role": "assistant", "content": "So."}],
        [{"content": None, "role": "user"}, {"role": "assistant", "content": "So."}],
    ],
)
def test_messages_without_an_answer_or_shape_are_refused(messages: object) -> None:
    with pytest.raises(RowError, match=r"message|answer"):
        case_of({"m": messages}, messages="m")


def test_text_and_answer_make_a_dialogue() -> None:
    case = case_of({"q": "Why?", "a": "So."}, text="q", answer="a")
    assert case.messages == (("user", "Why?"), ("assistant", "So."))
    with pytest.raises(RowError, match="answer"):
        case_of({"q": "Why?", "a": ""}, text="q", answer="a")


@pytest.mark.parametrize("text", [" ", None, float("nan")])
def test_a_row_without_text_is_refused(text: object) -> None:
    with pytest.raises(RowError, match="text"):
        case_of({"text": text, "label": "x"})


@pytest.mark.parametrize("label", ["", None, float("nan"), Decimal("NaN")])
def test_a_label_that_is_no_value_is_missing(label: object) -> None:
    assert case_of({"text": "A cough.", "label": label}).label is None


@pytest.mark.parametrize(
    ("columns", "what"),
    [
        ({"txt": "a", "label": "b"}, "unknown role `txt`"),
        ({"text": "a", "subgroup.": "b"}, "unknown role"),
        ({"label": "b"}, "neither `text` nor `messages`"),
        ({"text": "a"}, "nothing to learn"),
    ],
)
def test_roles_that_make_no_case_are_refused(columns: dict[str, str], what: str) -> None:
    with pytest.raises(UserError, match=what):
        format_of(Source(source="x", columns=columns))
