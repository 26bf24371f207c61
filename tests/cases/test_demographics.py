"""Ages and sexes as data sets write them."""

from __future__ import annotations

import pytest

from distmed.cases.demographics import age_band, age_in_years, age_words, sex_of


@pytest.mark.parametrize(
    ("written", "years"),
    [
        ("P6Y", 6.0),
        ("P5Y8M", 5 + 8 / 12),
        ("P3M", 0.25),
        ("P2W", 14 / 365.25),
        ("P1M10D", 1 / 12 + 10 / 365.25),
        ("Juvenile onset", 10.0),
        ("fetal", 0.0),
        ("47", 47.0),
        (47, 47.0),
        ("92 years", 92.0),
        ("45 yo", 45.0),
        ("45-year-old", 45.0),
        ("45 y/o", 45.0),
        ("90+", 90.0),
        (">89", 90.0),
        ("3 months", 0.25),
        ("2 wks", 14 / 365.25),
        ("<18", None),
        ("45/92", None),
        (0, 0.0),
        ("Adult onset", None),
        ("P", None),
        ("", None),
        (None, None),
        (-1, None),
        (float("nan"), None),
    ],
)
def test_an_age_is_read_however_it_is_written(written: object, years: float | None) -> None:
    assert age_in_years(written) == (pytest.approx(years) if years is not None else None)


@pytest.mark.parametrize(
    ("years", "words"),
    [
        (6.9, "6 years old"),
        (2, "2 years old"),
        (1.5, "18 months old"),
        (1, "1 year old"),
        (0.25, "3 months old"),
        (1 / 12, "1 month old"),
        (14 / 365.25, "14 days old"),
        (1 / 365.25, "1 day old"),
        (0, "newborn"),
    ],
)
def test_an_age_is_said_in_the_unit_of_that_age(years: float, words: str) -> None:
    assert age_words(years) == words


def test_sexes_are_known_by_their_usual_spellings_and_nothing_is_guessed() -> None:
    assert [sex_of(s) for s in ("FEMALE", "F", " male ", "M", "UNKNOWN_SEX", "OTHER_SEX", None, "")] == [
        *("female", "female", "male", "male"),
        *(None, None, None, None),
    ]


def test_age_bands_meet_without_gap() -> None:
    assert [age_band(y) for y in (0, 1.99, 2, 11.9, 12, 17.9, 18, 39.9, 40, 64.9, 65, 101)] == [
        *("0-1", "0-1", "2-11", "2-11", "12-17", "12-17"),
        *("18-39", "18-39", "40-64", "40-64", "65+", "65+"),
    ]
