"""Perturbed cases: what changes, what must not, and where nothing can be changed."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from distmed.cases.case import Case
from distmed.cases.read import read_cases
from distmed.evaluate.perturb import COUNTERFACTUALS, IRRELEVANT, PERTURBATIONS, other_age, swap_age, swap_sex
from distmed.recipe import Source

FINDINGS = Case(
    id="p1",
    kind="diagnosis",
    group="paper",
    findings=("Seizure", "Short stature", "Cerebellar ataxia", "Ptosis"),
    excluded=("Deafness", "Cataract"),
    sex="male",
    age_years=33.0,
    label="OMIM:1",
    label_name="disease",
    subgroups={"sex": "male", "age": "18-39", "site": "x"},
)
TEXT = Case(id="v1", kind="diagnosis", group="v1", text="A 45-year-old man has fever. He smokes.", label="flu")
QUESTION = Case(id="q1", kind="choice", group="exam", text="What is given first?", options=("Water", "Salt"), label="A")
ONE_FINDING = dataclasses.replace(FINDINGS, findings=("Ptosis",), excluded=())
ALL = {**PERTURBATIONS, **COUNTERFACTUALS}


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("case", [FINDINGS, TEXT, QUESTION], ids=["findings", "text", "question"])
def test_what_is_asked_for_stays(name: str, case: Case) -> None:
    changed = ALL[name](case, 1)
    if changed is None:
        return
    assert changed != case
    same = ("id", "kind", "group", "label", "label_name", "options", "messages", "differential")
    assert all(getattr(changed, field) == getattr(case, field) for field in same)
    assert ALL[name](case, 1) == changed  # the same seed, the same change


@pytest.mark.parametrize(
    ("case", "applies"),
    [
        (FINDINGS, {"typos", "case", "shuffled_findings", "irrelevant_sentence", "dropped_finding", "swap_sex", "swap_age"}),
        (TEXT, {"typos", "case", "irrelevant_sentence", "swap_sex", "swap_age"}),
        (QUESTION, {"typos", "case", "irrelevant_sentence"}),
        (ONE_FINDING, {"typos", "case", "irrelevant_sentence", "swap_sex", "swap_age"}),
        (Case(id="d", kind="diagnosis", group="d", text="Fit, 9."), {"case", "irrelevant_sentence"}),
    ],
)  # fmt: skip
def test_which_change_applies_to_which_case(case: Case, applies: set[str]) -> None:
    assert {name for name, perturb in ALL.items() if perturb(case, 1) is not None} == applies


def test_findings_are_the_same_in_another_order() -> None:
    changed = PERTURBATIONS["shuffled_findings"](FINDINGS, 1)
    assert changed is not None
    assert sorted(changed.findings) == sorted(FINDINGS.findings)
    assert sorted(changed.excluded) == sorted(FINDINGS.excluded)


def test_one_finding_is_dropped() -> None:
    changed = PERTURBATIONS["dropped_finding"](FINDINGS, 1)
    assert changed is not None
    assert len(set(FINDINGS.findings) - set(changed.findings)) == 1
    assert changed.excluded == FINDINGS.excluded


def test_typos_are_few_and_inside_words() -> None:
    text = "The patient complains about terrible abdominal cramps after every dinner since yesterday morning" * 3
    changed = PERTURBATIONS["typos"](dataclasses.replace(TEXT, text=text), 1)
    assert changed is not None
    pairs = list(zip(text.split(), changed.text.split(), strict=True))
    wrong = [(a, b) for a, b in pairs if a != b]
    assert 1 <= len(wrong) <= len(pairs) / 3
    assert all(a[0] == b[0] and a[-1] == b[-1] and abs(len(a) - len(b)) <= 1 for a, b in wrong)
    other = PERTURBATIONS["typos"](dataclasses.replace(TEXT, text=text), 2)
    assert other != changed


def test_an_irrelevant_sentence_leaves_the_question_last() -> None:
    changed = PERTURBATIONS["irrelevant_sentence"](QUESTION, 1)
    assert changed is not None
    assert changed.text.endswith(QUESTION.text)
    assert changed.text.removesuffix(QUESTION.text).strip() in IRRELEVANT


@pytest.mark.parametrize(
    ("text", "swapped"),
    [
        ("A 45-year-old man has fever. He smokes.", "A 45-year-old woman has fever. She smokes."),
        ("Her cough woke her. She herself drove.", "His cough woke him. He himself drove."),
        ("A girl; her mother had gout.", "A boy; his mother had gout."),
        ("58F c/o fever x 3 d.", "58M c/o fever x 3 d."),
        ("8 mo M, 2 d of cough.", "8 mo F, 2 d of cough."),
        ("34 yo F w/ rash", "34 yo M w/ rash"),
        ("101 F, now 98.6F. A WOMAN.", "101 F, now 98.6F. A MAN."),
        ("Mrs Smith, a lady of 80", "Mr Smith, a gentleman of 80"),
        ("Ms. Smith has MS, QRS 120 ms. MR angiography.", "Mr. Smith has MS, QRS 120 ms. MR angiography."),
        ("A woman with HER-2 and HER2, a bundle of His block.", "A man with HER-2 and HER2, a bundle of His block."),
        ("A man with grade 2 HE; his wife is well.", "A woman with grade 2 HE; her wife is well."),
        ("58F, T 99F, temp 98 F. Fever of 88F.", "58M, T 99F, temp 98 F. Fever of 88F."),
        ("A man who has sex with men; a male partner.", "A woman who has sex with men; a male partner."),
    ],
)
def test_words_for_the_patients_sex_are_swapped(text: str, swapped: str) -> None:
    changed = swap_sex(dataclasses.replace(TEXT, text=text), 1)
    assert changed is not None
    assert changed.text == swapped


@pytest.mark.parametrize(
    "text",
    ["A pregnant woman has fever.", "A man with prostate cancer.", "The pump fails.", "A woman after menopause."],
)
def test_where_one_sex_is_needed_or_none_is_told_nothing_is_swapped(text: str) -> None:
    assert swap_sex(dataclasses.replace(TEXT, text=text), 1) is None
    assert swap_sex(dataclasses.replace(FINDINGS, findings=("Cryptorchidism",)), 1) is None


@pytest.mark.parametrize(
    ("text", "swapped"),
    [
        ("A 45-year-old man has had fever for 5 days.", "A 80-year-old man has had fever for 5 days."),
        ("She is 70 years old, ill for 70 years.", "She is 35 years old, ill for 70 years."),
        ("58F c/o fever. Aged 58.", "23F c/o fever. Aged 23."),
        ("A boy aged 4; his father is 40 years old.", "A boy aged 12; his father is 40 years old."),
        ("Temp 98.6F, then 99F. A 45-year-old man.", "Temp 98.6F, then 99F. A 80-year-old man."),
        ("T 45F outside. 45F with cough, 45m away.", "T 45F outside. 80F with cough, 45m away."),
        ("His father died aged 60. He is 30 years old.", "His father died aged 60. He is 65 years old."),
        ("A 45-year-old man and his 45-year-old wife.", "A 80-year-old man and his 45-year-old wife."),
        ("Surgery at the age of 12. He is 30 years old.", "Surgery at the age of 12. He is 65 years old."),
    ],
)
def test_the_patients_age_is_swapped_and_no_duration(text: str, swapped: str) -> None:
    changed = swap_age(dataclasses.replace(TEXT, text=text), 1)
    assert changed is not None
    assert changed.text == swapped


@pytest.mark.parametrize(
    "text",
    [
        "An 8-month-old girl.",
        "Fever for 3 years.",
        "A 1-year-old boy.",
        "aged 14 months",
        "T 98.6F.",
        "101F since a day.",
    ],
)
def test_infants_and_untold_ages_are_left(text: str) -> None:
    assert swap_age(dataclasses.replace(TEXT, text=text), 1) is None


def test_swapping_twice_gives_the_age_back_and_keeps_the_stage_of_life() -> None:
    for years in range(2, 90):
        other = other_age(years)
        assert (years < 18) == (other < 18)
        assert 2 <= other < 95
    assert {other_age(other_age(years)) == years for years in (4, 12, 20, 40, 60, 80)} == {True}


def test_record_and_subgroups_follow_a_swap() -> None:
    sex, age = swap_sex(FINDINGS, 1), swap_age(FINDINGS, 1)
    assert sex is not None and age is not None
    assert (sex.sex, sex.subgroups) == ("female", {"sex": "female", "age": "18-39", "site": "x"})
    assert (age.age_years, age.subgroups["age"]) == (68.0, "65+")


def test_built_in_patients_and_real_ones_can_be_swapped(shared_data: Path) -> None:
    vignettes = list(read_cases(Source(source="builtin:patients/eval", limit=200)))
    assert sum(swap_sex(case, 1) is not None for case in vignettes) > 120
    assert sum(swap_age(case, 1) is not None for case in vignettes) > 120
    source = Source(source=str(shared_data / "phenopackets" / "dev.jsonl"), format="phenopackets")
    real = list(read_cases(source))
    assert sum(swap_sex(case, 1) is not None for case in real) > len(real) / 2
    assert sum(swap_age(case, 1) is not None for case in real) > len(real) / 2
