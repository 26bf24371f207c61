"""Markup, escaped line breaks and the labels of exports hide no identifier."""

from __future__ import annotations

import pytest

from distmed.prepare.deidentify import Deidentifier
from distmed.prepare.views import views
from tests.prepare.conftest import public


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("**Patient Name:** Chidi Okoro", "**Patient Name:** [NAME-1]"),
        ("**Patient Name**: Chidi Okoro", "**Patient Name**: [NAME-1]"),
        ("**MRN:** 1234567", "**MRN:** [MRN-1]"),
        ("*MRN*: 1234567, __DOB__: 3/4/50", "*MRN*: [MRN-1], __DOB__: [DATE-1]"),
        ("<b>MRN:</b> 1234567", "<b>MRN:</b> [MRN-1]"),
        ("<td>MRN</td><td>1234567</td>", "<td>MRN</td><td>[MRN-1]</td>"),
        ("<td>Name</td><td>Chidi Okoro</td><td>cough</td>", "<td>Name</td><td>[NAME-1]</td><td>cough</td>"),
        ("<p>Name: Chidi Okoro</p><p>Cough</p>", "<p>Name: [NAME-1]</p><p>Cough</p>"),
        ("PATIENT_NAME: CHIDI OKORO", "PATIENT_NAME: [NAME-1]"),
        ("patient_name=Chidi Okoro", "patient_name=[NAME-1]"),
        ('{"patient_name": "Chidi Okoro"}', '{"patient_name": "[NAME-1]"}'),
        (r"Seen by RN.\nDr. Okoro came.\nOkoro left.", r"Seen by RN.\nDr. [NAME-1] came.\n[NAME-1] left."),
        (r"Name:\tChidi Okoro\nCough", r"Name:\t[NAME-1]\nCough"),
    ],
)
def test_marks_and_escapes_hide_nothing(deidentifier: Deidentifier, text: str, left: str) -> None:
    assert public(deidentifier, text) == left


@pytest.mark.parametrize(
    "text",
    [
        "**Diagnosis:** Lupus nephritis\n* cough\n* fever <100 F, BP <90/60 and HR >100",
        "HLA-B*27:05, DQB1*06:02, 5*10^9/L, drug_name: Aspirin",
        "<p>Wilson disease</p><p>Plan: <b>rest</b></p>",
    ],
)
def test_marked_clinical_text_stays(deidentifier: Deidentifier, text: str) -> None:
    assert public(deidentifier, text) == text


@pytest.mark.parametrize("text", ["fever\nand cough", "* fever\n* cough", "BP <100, HLA-B*27, 5*10^9"])
def test_a_text_without_marks_is_read_once(text: str) -> None:
    assert len(list(views(text))) == 1


def test_every_character_of_a_view_stands_in_the_text() -> None:
    text = (
        "<b>Name:</b>  Chidi\u00a0Okoro and **MRN:** 12\u2011" + "34 with cough since the surgery in the last year " * 3
    )
    for view in views(text.replace("since the", "since\nthe")):
        assert len(view.text) == len(view.places)
        assert all(
            text.replace("since the", "since\nthe")[at] == letter
            for letter, at in zip(*view, strict=True)
            if letter.isalnum()
        )
