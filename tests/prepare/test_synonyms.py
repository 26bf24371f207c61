"""Synonyms: at least 150 pairs, swapped where they mean the same, in grammar."""

from __future__ import annotations

import pytest

from distmed.prepare.synonyms import SHORT, WORDS, swapped


def always() -> float:
    return 0.9


def test_there_are_at_least_150_pairs() -> None:
    assert len({frozenset((word.lower(), other.lower())) for word, other in [*SHORT.items(), *WORDS.items()]}) >= 150
    assert len(set(SHORT.values())) == len(SHORT)
    assert all(word == word.lower() for word in WORDS)


@pytest.mark.parametrize(
    ("text", "other"),
    [
        ("a myocardial infarction in 2019", "an MI in 2019"),
        ("An AKI on CKD", "An acute kidney injury on chronic kidney disease"),
        ("a UTI", "a urinary tract infection"),
        ("an upper respiratory infection", "a URI"),
        ("COPD with wheezing", "Chronic obstructive pulmonary disease with wheezing"),
        ("known COPD", "known chronic obstructive pulmonary disease"),
        ("Hypertension, dyspnea", "HTN, shortness of breath"),
        ("a STEMI", "an ST-elevation myocardial infarction"),
        ("a non-ST-elevation myocardial infarction", "an NSTEMI"),
        ("nephrolithiasis and hematuria", "kidney stones and blood in the urine"),
    ],
)
def test_swaps_keep_grammar_and_capitals(text: str, other: str) -> None:
    assert swapped(text, always) == other


@pytest.mark.parametrize(
    "text",
    [
        "PE was normal, on RA, MS contin",  # short forms of many meanings are not spelled out
        "erythema nodosum, yellow fever, anorexia nervosa, alopecia areata, urticaria pigmentosa",
        "MIs, hypertensions, preHTN, COPD-like",
        "all of it, as is",
    ],
)
def test_what_is_part_of_another_term_stays(text: str) -> None:
    assert swapped(text, always) == text


def test_about_half_of_the_forms_are_swapped_and_a_draw_below_half_swaps_none() -> None:
    assert swapped("MRI and COPD", lambda: 0.1) == "MRI and COPD"
    draws = iter([0.1, 0.9])
    assert swapped("MRI and COPD", lambda: next(draws)) == "MRI and chronic obstructive pulmonary disease"
