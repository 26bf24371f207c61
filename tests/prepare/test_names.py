"""Names: known by what stands around them, sought in the whole case, and told from diseases that bear one."""

from __future__ import annotations

import pytest

from distmed.prepare.deidentify import Deidentifier
from tests.prepare.conftest import public


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("Robert Okoro has a fever.", "[NAME-1] has a fever."),
        ("Maria Gonzalez presented with fever", "[NAME-1] presented with fever"),
        ("DR SMITH performed hernia repair", "DR [NAME-1] performed hernia repair"),
        ("Her husband Bob had a tumor", "Her husband [NAME-1] had a tumor"),
        ("Patient Name: Chidi Okoro Vital Signs: stable", "Patient Name: [NAME-1] Vital Signs: stable"),
        (
            "Mr. Okoro came. Okoro denies any fever. Okoro has no murmur. Okoro's abdomen is soft, Okoro's disease mild.",
            "Mr. [NAME-1] came. [NAME-1] denies any fever. [NAME-1] has no murmur. [NAME-1]'s abdomen is soft, "
            "[NAME-1]'s disease mild.",
        ),
        ("Mr. Parkinson has Parkinson's disease.", "Mr. [NAME-1] has Parkinson's disease."),
        ("Dr. Cohen described Cohen syndrome.", "Dr. [NAME-1] described Cohen syndrome."),
    ],
)
def test_a_clinical_word_after_a_name_hides_it_only_in_an_eponym(
    deidentifier: Deidentifier, text: str, left: str
) -> None:
    assert public(deidentifier, text) == left


@pytest.mark.parametrize(
    ("text", "left"),
    [
        (
            "Mr. OKORO was seen. Dr. JONES agreed. Mrs. GARCIA",
            "Mr. [NAME-1] was seen. Dr. [NAME-2] agreed. Mrs. [NAME-3]",
        ),
        ("Dr. JOHN OKORO", "Dr. [NAME-1]"),
        ("Mme. DUPONT, Herr MÜLLER", "Mme. [NAME-1], Herr [NAME-2]"),
        ("Mr. McDONALD", "Mr. [NAME-1]"),
        ("MR SMITH presented", "MR [NAME-1] presented"),
        ("MS JONES was seen", "MS [NAME-1] was seen"),
        ("seen by dr. smith today", "seen by dr. [NAME-1] today"),
        ("mr. john okoro came", "mr. [NAME-1] came"),
    ],
)
def test_a_title_gives_a_name_away_in_any_case_of_letters(deidentifier: Deidentifier, text: str, left: str) -> None:
    assert public(deidentifier, text) == left


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("Ada Okoro (DOB 3/4/50)", "[NAME-1] (DOB [DATE-1])"),
        ("Ada Okoro, MRN 123456", "[NAME-1], MRN [MRN-1]"),
        ("Okoro, Ada (MRN 123456)", "[NAME-1] (MRN [MRN-1])"),
        ("OKORO, ADA 45 F", "[NAME-1] 45 F"),
        ("PCP: Lee", "PCP: [NAME-1]"),
        ("Surgeon: Wang", "Surgeon: [NAME-1]"),
        ("Signed by Okoro", "Signed by [NAME-1]"),
        ("Okoro, MD", "[NAME-1], MD"),
        ("Drs. Lee, Patel, and Brown agree", "Drs. [NAME-1], [NAME-2], and [NAME-3] agree"),
        ("Baby boy Okoro", "Baby boy [NAME-1]"),
        ("Wife Abdul at bedside", "Wife [NAME-1] at bedside"),
    ],
)
def test_a_name_is_known_by_what_stands_beside_it(deidentifier: Deidentifier, text: str, left: str) -> None:
    assert public(deidentifier, text) == left


@pytest.mark.parametrize(
    "text",
    [
        "FH: Mother Lupus, dad Gout. Assessment: Lupus nephritis flare.",
        "Contact: Latex Allergy",
        "From: Foley Catheter",
        "Attending: Present. Surgeon: None. PCP: Unassigned",
        "Hypotension, MD aware. Agitated, RN notified.",
        "Provider: Okay.\nGuest_clinician: Hello, doctor.\nPatient: Sure.\nPhysician: Okay",
        "MR ANGIOGRAPHY was performed, MS CONTIN was started, MR BRAIN is a normal study.",
        "moderate mr. trace tr. dr. said so",
        "HTN, DM 45 F with cough\nCOPD, CAD 70 M",
        "Surgeon: Elective. MS RELAPSE presents with weakness. Baby boy Born at term. Doctor CBC",
        "Lt ICA stenosis, Lt. MCA stroke",
        "Duchenne muscular dystrophy, Ann Arbor stage II, Charles Bonnet syndrome, Wolff-Parkinson-White syndrome.",
        "Charcot-Marie-Tooth disease, Rocky Mountain spotted fever, Henoch-Schonlein purpura, Lou Gehrig's disease.",
    ],
)
def test_what_only_stands_where_names_do_stays(deidentifier: Deidentifier, text: str) -> None:
    assert public(deidentifier, text) == text


def test_a_word_that_was_weakly_taken_for_a_name_is_not_sought_elsewhere(deidentifier: Deidentifier) -> None:
    said = public(deidentifier, "FH: mother (Lupus). Assessment: Lupus nephritis. Lupus flare.")
    assert said.endswith("Assessment: Lupus nephritis. Lupus flare.")


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("Dr. Ali saw him. He developed ALI and ARDS.", "Dr. [NAME-1] saw him. He developed ALI and ARDS."),
        ("DR. ALI: no ALI. Ali agrees.", "DR. [NAME-1]: no ALI. [NAME-1] agrees."),
        ("Ms. Tia Sah had a TIA, no SAH.", "Ms. [NAME-1] had a TIA, no SAH."),
        ("Name: ROE, JANE\nROE AGREES. Roe came.", "Name: [NAME-1]\n[NAME-1] AGREES. [NAME-1] came."),
        ("Mrs. Smith came. SMITH agrees.", "Mrs. [NAME-1] came. [NAME-1] agrees."),
    ],
)
def test_a_short_name_in_capitals_may_be_an_abbreviation(deidentifier: Deidentifier, text: str, left: str) -> None:
    assert public(deidentifier, text) == left
