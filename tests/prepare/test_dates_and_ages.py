"""Dates finer than a year and ages over 89 go, whatever they look like; scores, doses and sizes stay."""

from __future__ import annotations

import pytest

from distmed.prepare.deidentify import Deidentifier
from tests.prepare.conftest import case, public


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("Age/Sex: 92/F", "Age/Sex: [AGE-90+]/F"),
        ("Age (years): 92", "Age (years): [AGE-90+]"),
        ("She is 92 years", "She is [AGE-90+] years"),
        ("She is 92 yrs", "She is [AGE-90+] yrs"),
        ("92 yr F", "[AGE-90+] yr F"),
        ("92 years and 3 months old", "[AGE-90+] years and 3 months old"),
        ("92 -year-old", "[AGE-90+] -year-old"),
        ("A 92 year\nold man", "A [AGE-90+] year\nold man"),
        ("mother died at 94", "mother died at [AGE-90+]"),
        ("a nonagenarian, her mother a centenarian", "a [AGE-90+], her mother a [AGE-90+]"),
        ("born in 1925, her son born in 1955", "born in [AGE-90+], her son born in 1955"),
    ],
)
def test_an_age_over_89_goes_however_it_is_written(deidentifier: Deidentifier, text: str, left: str) -> None:
    assert public(deidentifier, text) == left


@pytest.mark.parametrize(
    "text",
    [
        "sats in her 90s",
        "100-year-old scar, 95 year old house",
        "91 years ago, 90 years later",
        "well at 95 weeks, died at 94 kg",
        "Age/Sex: 42/F",
    ],
)
def test_what_is_no_age_of_a_person_stays(deidentifier: Deidentifier, text: str) -> None:
    assert public(deidentifier, text) == text


def test_a_finding_of_small_letters_is_read_for_ages_too(deidentifier: Deidentifier) -> None:
    assert deidentifier(case("", findings=("frail nonagenarian",)))[0].findings == ("frail [AGE-90+]",)


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("Wed 12/4: better", "Wed [DATE-1]: better"),
        ("Admitted Monday 3/4", "Admitted Monday [DATE-1]"),
        ("LMP: 3/4", "LMP: [DATE-1]"),
        ("from 3/4 to 3/8", "from [DATE-1] to [DATE-2]"),
        ("Labs 3/4 and 3/5", "Labs [DATE-1] and [DATE-2]"),
        ("seen on 3-4-21", "seen on [DATE-1]"),
        ("seen 04-Mar, since Mar-21", "seen [DATE-1], since [DATE-2]"),
        ("DOB: 4/Mar/1950", "DOB: [DATE-1]"),
        ("Seen 4/5, 4/7 and 4/9", "Seen [DATE-1], [DATE-2] and [DATE-3]"),
        ("Admitted 4/5-4/9", "Admitted [DATE-1]-[DATE-2]"),
        ("DOB 3-4-50", "DOB [DATE-1]"),
        ("March 4-6 in hospital", "[DATE-1] in hospital"),
    ],
)
def test_a_date_goes_as_a_whole(deidentifier: Deidentifier, text: str, left: str) -> None:
    assert public(deidentifier, text) == left


@pytest.mark.parametrize(
    "text",
    [
        "Levodopa/carbidopa/entacapone 12/5/20",
        "insulin 10/5/12 units, lispro 10-10-12",
        "Apgar 8/9/10, Apgar scores of 8/9/10",
        "size 10/12/14 mm",
        "VA 6/12 and 6/9, vision 6/9 and 6/12",
        "strength went from 3/5 to 4/5; a 3/6 murmur, from 2/6 to 3/6",
        "SEPT-9 methylation, DEC1, MARCH-8",
    ],
)
def test_scores_doses_and_sizes_stay(deidentifier: Deidentifier, text: str) -> None:
    assert public(deidentifier, text) == text
