"""Vignettes: the free text of a built-in patient, in prose or in clinical shorthand.

Sex, age, course, findings and negatives flow in, a few sentences flow out; wording and order are drawn from the
caller's random stream.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

from distmed.cases.case import Sex
from distmed.cases.findings import Finding, FindingKind

T = TypeVar("T")
Uniform = Callable[[], float]
"""Draws from [0, 1)."""

COURSES = ("hours", "days", "weeks", "months")
_LONGEST = {"hours": 20, "days": 6, "weeks": 7, "months": 11}
_SHORT = {"hours": "h", "days": "d", "weeks": "wk", "months": "mo"}

_PROSE_OPENINGS = (
    "A {age} {noun} presents with {complaints} for {span}.",
    "A {age} {noun} reports {complaints}, which began {span} ago.",
    "{age} {noun} with a {span_adjective} history of {complaints}.",
    "For {span} this {age} {noun} has had {complaints}.",
)
_SHORT_OPENINGS = (
    "{code} c/o {complaints} x {span_short}.",
    "{code}, {span_short} of {complaints}.",
    "{code} w/ {complaints}, onset {span_short} ago.",
)
_HISTORY = ("History of {}.", "Background: {}.", "The history includes {}.")
_EXAM = ("On examination there is {}.", "Examination shows {}.", "Findings: {}.")
_TESTS = ("Tests show {}.", "Results: {}.")
_SHORT_HISTORY = ("PMH: {}.", "Hx {}.")
_SHORT_EXAM = ("O/E {}.", "Exam: {}.")
_SHORT_TESTS = ("Labs: {}.", "Ix: {}.")
_DENIALS = ("Denies {}.", "There is no {}.", "Negative for {}.")
_ORDERS = ("hetn", "neth", "ethn", "nhet", "hnet", "etnh")


def vignette(
    sex: Sex, age: float, course: str, told: Sequence[Finding], negatives: Sequence[Finding], uniform: Uniform
) -> str:
    """Two to five sentences on a patient: who and what for, history, examination, tests, and what is not there."""

    def pick(items: Sequence[T]) -> T:
        return items[int(uniform() * len(items))]

    def phrases(kind: FindingKind) -> list[str]:
        return [pick(finding.phrases) for finding in told if finding.kind == kind]

    short = uniform() < 0.4
    number = 2 + int(uniform() * (_LONGEST[course] - 1))
    months = round(age * 12)
    woman = sex == "female"
    opening = pick(_SHORT_OPENINGS if short else _PROSE_OPENINGS).format(
        age=f"{int(age)}-year-old" if age >= 2 else f"{months}-month-old",
        code=_code(woman, age, pick),
        noun=pick(_nouns(woman, age)),
        complaints=_listed(phrases("symptom"), "" if short else " and ") or "feeling unwell",
        span=f"{number} {course}",
        span_adjective=f"{number}-{course[:-1]}",
        span_short=f"{number} {_SHORT[course]}",
    )
    history, signs, tests = phrases("history"), phrases("sign"), phrases("test")
    parts = {
        "h": pick(_SHORT_HISTORY if short else _HISTORY).format(_listed(history)) if history else "",
        "e": pick(_SHORT_EXAM if short else _EXAM).format(_listed(signs)) if signs else "",
        "t": pick(_SHORT_TESTS if short else _TESTS).format(_listed(tests)) if tests else "",
        "n": _denial([pick(finding.phrases[:2]) for finding in negatives], pick) if negatives else "",
    }
    return " ".join(part for part in (opening, *(parts[letter] for letter in pick(_ORDERS))) if part)


def _code(woman: bool, age: float, pick: Callable[[Sequence[str]], str]) -> str:
    """ "58F", "58 yo F", "8 mo F"."""
    letter = "F" if woman else "M"
    if age < 2:
        return f"{round(age * 12)} mo {letter}"
    return f"{int(age)}{pick(('', ' yo '))}{letter}"


def _nouns(woman: bool, age: float) -> tuple[str, ...]:
    if age < 18:
        return ("girl", "young female") if woman else ("boy", "young male")
    return ("woman", "female", "lady") if woman else ("man", "male", "gentleman")


def _listed(phrases: Sequence[str], last: str = "") -> str:
    if last and len(phrases) > 1:
        return f"{', '.join(phrases[:-1])}{last}{phrases[-1]}"
    return ", ".join(phrases)


def _denial(phrases: Sequence[str], pick: Callable[[Sequence[str]], str]) -> str:
    form = pick((*_DENIALS, "each"))
    if form == "each":
        return f"No {', no '.join(phrases)}."
    return form.format(_listed(phrases, " or "))
