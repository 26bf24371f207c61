"""Age and sex as data sets write them, and as a prompt or a subgroup says them.

Strings and numbers of any source flow in; years, a sex, words and age bands flow out. What cannot be read becomes
None: a case without an age is still a case.
"""

from __future__ import annotations

import re
from typing import Any

from distmed.cases.case import Sex

_DURATION = re.compile(r"P(?:(\d+)Y)?(?:(\d+)M)?(?:(\d+)W)?(?:(\d+)D)?(?:T.*)?", re.IGNORECASE)
_DAYS_PER_YEAR = 365.25
_WRITTEN = re.compile(
    r"(?P<bound>>=?|≥)?\s*(?P<number>\d{1,3}(?:\.\d+)?)\s*(?:\+|(?:or|and) (?:older|over|more))?\s*-?"
    r"(?P<unit>y(?:ears?|rs?\.?)?|m(?:onths?|os?\.?)|w(?:eeks?|ks?\.?)|d(?:ays?)?)?[\s-]*(?:/?o(?:ld)?\.?)?\s*\+?",
    re.IGNORECASE,
)
_PER_YEAR = {"y": 1.0, "m": 12.0, "w": _DAYS_PER_YEAR / 7, "d": _DAYS_PER_YEAR}

# Onset terms of the Human Phenotype Ontology (below HP:0003674) -> the middle of the interval that defines them, in
# years. "Adult onset" (16 years and later) is too wide for a middle to mean anything.
_ONSETS = {
    "antenatal": 0.0,
    "embryonal": 0.0,
    "fetal": 0.0,
    "first trimester": 0.0,
    "second trimester": 0.0,
    "third trimester": 0.0,
    "congenital": 0.0,
    "neonatal": 0.04,
    "infantile": 0.5,
    "childhood": 3.0,
    "juvenile": 10.0,
    "young adult": 28.0,
    "middle age": 50.0,
    "late": 70.0,
}
_SEXES: dict[str, Sex] = {
    "f": "female",
    "female": "female",
    "woman": "female",
    "girl": "female",
    "m": "male",
    "male": "male",
    "man": "male",
    "boy": "male",
}
_BANDS = ((2, "0-1"), (12, "2-11"), (18, "12-17"), (40, "18-39"), (65, "40-64"))


def age_in_years(value: Any) -> float | None:
    """Years from a number, also with a unit or a bound ("45 yo", "3 months", "90+", ">89"), an ISO 8601 duration ("P5Y8M") or
    an onset term ("Juvenile onset"); else None. ">89" is 90."""
    if value is None or isinstance(value, bool):
        return None
    if isinstance(value, int | float):
        return float(value) if 0 <= value < 150 else None
    text = str(value).strip()
    duration = _DURATION.fullmatch(text)
    if duration and any(duration.groups()):
        years, months, weeks, days = (int(part or 0) for part in duration.groups())
        return years + months / 12 + (7 * weeks + days) / _DAYS_PER_YEAR
    written = _WRITTEN.fullmatch(text)
    if written:
        counted = float(written["number"]) + (written["bound"] == ">")
        return age_in_years(counted / _PER_YEAR[(written["unit"] or "y")[0].lower()])
    try:
        return age_in_years(float(text))
    except ValueError:
        return _ONSETS.get(text.lower().removesuffix("onset").strip())


def sex_of(value: Any) -> Sex | None:
    """`female` or `male` from the usual spellings; None for anything else ("UNKNOWN_SEX")."""
    return _SEXES.get(str(value).strip().lower())


def age_words(years: float) -> str:
    """ "6 years old", below two years in months, below four weeks in days."""
    if years >= 2:
        return f"{int(years)} years old"
    days, months = round(years * _DAYS_PER_YEAR), max(1, round(years * 12))
    if days == 0:
        return "newborn"
    if days < 28:
        return f"{days} day{'s' * (days > 1)} old"
    return "1 year old" if months == 12 else f"{months} month{'s' * (months > 1)} old"


def age_band(years: float) -> str:
    """The band of years by which results are broken down: infants, children, adolescents, then adults in three."""
    return next((name for below, name in _BANDS if years < below), "65+")


def subgroups(sex: Sex | None, age_years: float | None) -> dict[str, str]:
    """What every case can be broken down by, where it is known."""
    known = {}
    if sex is not None:
        known["sex"] = str(sex)
    if age_years is not None:
        known["age"] = age_band(age_years)
    return known
