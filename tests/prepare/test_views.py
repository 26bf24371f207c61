"""Spaces and hyphens of all kinds, wrapped lines, markup and escaped line breaks hide no identifier."""

from __future__ import annotations

import pytest

from distmed.prepare.deidentify import Deidentifier
from distmed.prepare.views import views
from tests.prepare.conftest import public


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("Seen by Dr.\u00a0Smith.", "Seen by Dr.\u00a0[NAME-1]."),
        ("Mr.\u00a0John\u202fSmith came.", "Mr.\u00a0[NAME-1] came."),
        ("Call 617\u2011555\u20110199 or 617\u2013555\u20130199.", "Call [PHONE-1] or [PHONE-1]."),
        ("Phone (617)\u00a0555\u20100199", "Phone [PHONE-1]"),
        ("SSN 123\u201145\u20136789", "SSN [SSN-1]"),
        ("MRN 44\u201121\u201190, seen 03\u201105\u20112020", "MRN [MRN-1], seen [DATE-1]"),
        ("On March\u00a05,\u00a02020 she came.", "On [DATE-1] she came."),
        ("12\u00a0Elm\u00a0Street, Springfield,\u00a0IL\u00a062704", "[ADDRESS-1]"),
        ("Mr. de la Cruz came.\nde\u00a0la\u00a0Cruz left.", "Mr. [NAME-1] came.\n[NAME-1] left."),
        ("Phone 617-555-0199. 99F", "Phone [PHONE-1]. 99F"),
        ("A 92\u2011year\u2011old man", "A [AGE-90+]\u2011year\u2011old man"),
        ("Mr.Smith and Dr.Jones came.", "Mr.[NAME-1] and Dr.[NAME-2] came."),
        ("MR. SMITH, DR. JONES and DR.ROE", "MR. [NAME-1], DR. [NAME-2] and DR.[NAME-3]"),
        ("Dr.\nSmith will see her.", "Dr.\n[NAME-1] will see her."),
        ("Patient Name: John\nSmith\nDOB: 1/2/1950", "Patient Name: [NAME-1]\nDOB: [DATE-1]"),
    ],
)
def test_other_spaces_hyphens_and_breaks_hide_nothing(deidentifier: Deidentifier, text: str, left: str) -> None:
    assert public(deidentifier, text) == left


@pytest.mark.parametrize(
    ("first", "left"),
    [
        ("seen by Dr. Karen\nBlum, ", "seen by Dr. [NAME-1], "),
        ("by his wife, Mary\nJones, ", "by his wife, [NAME-1], "),
        ("from a flat at 12 Elm\nStreet in Springfield, ", "from a flat at [ADDRESS-1] in Springfield, "),
        ("with cough since March\n5, 2020, ", "with cough since [DATE-1], "),
        ("who can be reached at 617-555-\n0199, ", "who can be reached at [PHONE-1], "),
        ("as reported by Jean García-\nLópez, ", "as reported by [NAME-1], "),
    ],
)
def test_a_hard_wrapped_line_cuts_no_identifier(deidentifier: Deidentifier, first: str, left: str) -> None:
    start, after = (
        "The lungs are clear and the abdomen is soft in this patient ",
        "and no edema is seen on either leg.\n",
    )
    assert public(deidentifier, start + first + after) == start + left + after


@pytest.mark.parametrize(
    "text",
    [
        "Attending: [NAME-1]\nMetoprolol 25 mg daily, lisinopril 10 mg daily, furosemide 20 mg in the morning",
        "Name: [NAME-1]\nTobacco: none",
        "The findings were discussed this morning with the attending, Dr. [NAME-1]\nTroponin: 0.04",
        "The findings were discussed this morning with the attending, Dr. [NAME-1]\n- Heparin",
        "Sincerely,\n[NAME-1]\nHematologist",
    ],
)
def test_a_line_that_is_not_full_ends_a_name(deidentifier: Deidentifier, text: str) -> None:
    assert public(deidentifier, text.replace("[NAME-1]", "Jane Roe")) == text


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
        ('{"patientName": "Chidi Okoro", "drugName": "Aspirin"}', '{"patientName": "[NAME-1]", "drugName": "Aspirin"}'),
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
