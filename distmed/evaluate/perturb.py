"""The same case in other words: perturbations that should not change an answer, and swaps of sex and age.

A case and a seed flow in; a changed case flows out, or None where there is nothing to change. Options, label and id stay. The
same seed changes a case in the same way on every machine.
"""

from __future__ import annotations

import dataclasses
import random
import re
from collections.abc import Callable
from typing import Any

from distmed.cases.case import Case, Sex
from distmed.cases.demographics import subgroups

Perturb = Callable[[Case, int], Case | None]

TYPO_RATE = 1 / 8
IRRELEVANT = (
    "The appointment was on a Tuesday.",
    "It was raining that day.",
    "The patient came by bus.",
    "The waiting room was full.",
    "The letter was typed by the secretary.",
    "The neighbor has a small dog.",
    "The family moved to another street last year.",
    "The patient likes to listen to the radio.",
)


def typos(case: Case, seed: int) -> Case | None:
    """One word of five letters or more in eight, and at least one, with two letters swapped, one left out or one doubled."""
    draw = _draw("typos", case, seed)
    words = sum(len(_LONG_WORD.findall(text)) for text in _texts(case))
    if not words:
        return None
    chosen = {place for place in range(words) if draw.random() < TYPO_RATE} or {draw.randrange(words)}
    numbers = iter(range(words))
    return _reworded(
        case,
        lambda text: _LONG_WORD.sub(lambda m: _misspelt(m[0], draw) if next(numbers) in chosen else m[0], text),
    )


def upper_case(case: Case, seed: int) -> Case | None:
    """Everything in capitals, as some records are kept."""
    return _reworded(case, str.upper)


def shuffled_findings(case: Case, seed: int) -> Case | None:
    """Findings in another order. None for a case told as text."""
    draw = _draw("shuffled_findings", case, seed)
    changed = dataclasses.replace(
        case,
        findings=tuple(draw.sample(case.findings, len(case.findings))),
        excluded=tuple(draw.sample(case.excluded, len(case.excluded))),
    )
    return None if changed == case or case.text else changed


def irrelevant_sentence(case: Case, seed: int) -> Case | None:
    """One sentence that says nothing about the patient's illness: before a question, after a vignette, or as a finding."""
    sentence = _draw("irrelevant_sentence", case, seed).choice(IRRELEVANT)
    if case.text:
        told = f"{sentence} {case.text}" if case.kind == "choice" else f"{case.text} {sentence}"
        return dataclasses.replace(case, text=told)
    return dataclasses.replace(case, findings=(*case.findings, sentence.rstrip("."))) if case.findings else None


def dropped_finding(case: Case, seed: int) -> Case | None:
    """One finding left out, where there are two or more. None for a case told as text."""
    if case.text or len(case.findings) < 2:
        return None
    place = _draw("dropped_finding", case, seed).randrange(len(case.findings))
    return dataclasses.replace(case, findings=case.findings[:place] + case.findings[place + 1 :])


def swap_sex(case: Case, seed: int) -> Case | None:
    """The other sex, in the record and in the words for the patient. None where an organ or event of one sex is named.

    Words for relatives stay: whose mother was ill does not depend on the patient's sex. So do temperatures, and what only looks
    like such a word: 120 ms, MS, MR, HER-2, the bundle of His.
    """
    if case.kind == "dialogue" or _ONE_SEX.search(" ".join((*_texts(case), *case.options))):
        return None
    sex: Sex | None = "male" if case.sex == "female" else "female" if case.sex == "male" else None
    changed = dataclasses.replace(case, text=_SEXED.sub(_other_word, case.text), sex=sex)
    return _swapped(case, changed)


def swap_age(case: Case, seed: int) -> Case | None:
    """Another age of the same stage of life: 2–9 and 10–17 years change places, and so do below 55 and from 55 on.

    None below two years, where age and findings belong together, where no age is told, and where text and record differ.
    Ages of relatives stay, and so do temperatures.
    """
    if case.kind == "dialogue":
        return None
    ages = [match for match in _AGE.finditer(case.text) if _is_of_the_patient(match)]
    now = [int(_years(match)) for match in ages if not _EVENT.search(case.text, 0, match.start())]
    if case.age_years is not None:
        years, told = case.age_years, int(case.age_years)
        if now and told not in now:
            return None
    elif now:
        years = told = now[0]
    else:
        return None
    if not 2 <= years < 120:
        return None
    shift = other_age(years) - years

    def moved(match: re.Match[str]) -> str:
        own = _years(match)
        same = int(own) == told and _is_of_the_patient(match)
        return match[0].replace(own, str(int(own) + int(shift))) if same else match[0]

    age = None if case.age_years is None else case.age_years + shift
    return _swapped(case, dataclasses.replace(case, text=_AGE.sub(moved, case.text), age_years=age))


def other_age(years: float) -> float:
    """8 years later or earlier for a child, 35 for an adult."""
    if years < 18:
        return years + 8 if years < 10 else years - 8
    return years + 35 if years < 55 else years - 35


PERTURBATIONS: dict[str, Perturb] = {
    "typos": typos,
    "case": upper_case,
    "shuffled_findings": shuffled_findings,
    "irrelevant_sentence": irrelevant_sentence,
    "dropped_finding": dropped_finding,
}
COUNTERFACTUALS: dict[str, Perturb] = {"swap_sex": swap_sex, "swap_age": swap_age}


_LONG_WORD = re.compile(r"[^\W\d_]{5,}")
_ONE_SEX = re.compile(
    r"\b(?:pregnan|gravid|gestation|obstetric|antenatal care|postpartum|post-partum|puerper|breast.?feed|lactati|"
    r"menstr|menarche|menopaus|menorrh|amenorrh|oligomenorrh|dysmenorrh|ovar|uter(?:us|ine)|endometri|hysterect|vagin|vulv|clitor|"
    r"labia|cervix|eclamp|fallopian|prostat|test(?:is|es|icul)|scrot|penile|penis|hypospadia|"
    r"epispadia|cryptorchi|orchi|erectile|sperm|varicocele|gynecomast|gynaecomast|hydrocele|micropenis|virili|foreskin|phimosis)",
    re.IGNORECASE,
)
# "her" is told apart below; relatives (mother, husband …) are left as they are, and so are plurals, which are no patient.
_PAIRS = (
    ("man", "woman"),
    ("male", "female"),
    ("boy", "girl"),
    ("gentleman", "lady"),
    ("he", "she"),
    ("himself", "herself"),
)
_WORDS = {a: b for pair in _PAIRS for a, b in (pair, pair[::-1])} | {
    "him": "her",
    "his": "her",
    "hers": "his",
    "mr": "mrs",
    "mrs": "mr",
    "ms": "mr",
}
_TITLES = ("Mrs", "Mr", "Ms")
_ABBREVIATIONS = ("HE", "HER", "HIS")
"""In capitals these are words only where everything is."""
# 45F, 45 yo F, 8 mo M: the letter alone is the sex only behind an age, and 101 F or 98.6F is a temperature.
_CODE = r"(?<=\d)(?<!\d{3})(?<!\.\d)(?:\s?(?:yo|y/o|y|mo)\s?)?[FM](?=[\s,.;:)]|$)"
_PLAIN = "|".join(word for word in [*_WORDS, "her"] if word.capitalize() not in _TITLES)
_SEXED = re.compile(
    rf"{_CODE}|\b(?-i:{'|'.join(_TITLES)})(?=\.?\s+(?-i:[A-Z]))"
    rf"|(?<!\bbundle of )\b(?:{_PLAIN})\b"
    r"(?![\s-]+(?:bundle|Purkinje|pattern|(?:sexual\s+)?partner|sibling|relative|donor)|-?\d)",
    re.IGNORECASE,
)
# Behind these, "her" is "him": it stands alone. Before a noun it is "his".
_ALONE = re.compile(
    r"\s*(?:$|[^\w\s]|(?:and|or|to|with|in|on|at|for|from|by|as|when|while|because|after|before|the|an?)\b)",
    re.IGNORECASE,
)
_AGE = re.compile(
    r"(?<![\d.])(?P<a>\d{1,3})(?=[\s-]*(?:years?|yrs?)[\s-]*(?:old|of age)\b|\s*(?:yo|y/o)\b"
    r"|(?<!\d{3})(?-i:[FM])(?=[\s,.;:)]|$))"
    r"|\b(?:aged|age of|age:)\s*(?P<b>\d{1,3})\b(?![\s-]*(?:months?|weeks?|days?))",
    re.IGNORECASE,
)
_RELATIVE = (
    r"\b(?:(?:grand|step)?(?:mother|father|son|daughter|parents?)|brother|sister|sibling|twin|wife|husband|spouse|partner|"
    r"uncle|aunt|cousin|nephew|niece|roommate|friend)s?\b"
)
_OF_A_RELATIVE = re.compile(rf"{_RELATIVE}[^.;,]*\Z", re.IGNORECASE)
_THEN_A_RELATIVE = re.compile(rf"[\s-]*(?:(?:years?|yrs?)[\s-]*(?:old|of age)|yo|y/o)?\s+{_RELATIVE}", re.IGNORECASE)
_EVENT = re.compile(r"\b(?:at|since|from|until|till|by|before|after)\s+(?:the\s+)?\Z", re.IGNORECASE)
_TEMPERATURE = re.compile(r"(?:\btemp\w*|\bfevers?|\bT|\bTmax)\W*(?:(?:of|is|was|to|up|at)\W+)*\d*\Z", re.IGNORECASE)
LEAST_FEVER = 90
"""From here on a number before F is a temperature: 98F, 101 F."""


def _is_of_the_patient(match: re.Match[str]) -> bool:
    """Whether an age is neither that of a relative nor a temperature."""
    text, at = match.string, match.start()
    relative = _OF_A_RELATIVE.search(text, max(0, at - 80), at) or _THEN_A_RELATIVE.match(text, match.end())
    return not relative and not (text[match.end() :][:1] == "F" and _is_temperature(text, match.end()))


def _is_temperature(text: str, end: int) -> bool:
    """Whether the number that ends there, with F behind it, is one."""
    number = re.search(r"\d+\Z", text[:end].rstrip())
    hot = number is not None and int(number[0]) >= LEAST_FEVER
    return hot or _TEMPERATURE.search(text[max(0, end - 40) : end].rstrip()) is not None


def _draw(what: str, case: Case, seed: int) -> random.Random:
    """Seeded by a text, which Python hashes in the same way everywhere."""
    return random.Random(f"{what}\0{seed}\0{case.id}")


def _texts(case: Case) -> tuple[str, ...]:
    return (case.text,) if case.text else (*case.findings, *case.excluded)


def _reworded(case: Case, change: Callable[[str], str]) -> Case | None:
    """The case with its text, or else its findings, changed."""
    if case.text:
        changed = dataclasses.replace(case, text=change(case.text))
    else:
        changed = dataclasses.replace(
            case, findings=tuple(map(change, case.findings)), excluded=tuple(map(change, case.excluded))
        )
    return None if changed == case else changed


def _misspelt(word: str, draw: random.Random) -> str:
    """Changed inside: first and last letters are seldom mistyped, and carry most of a word."""
    at = draw.randrange(1, len(word) - 2)
    swapped = word[:at] + word[at + 1] + word[at] + word[at + 2 :]
    dropped, doubled = word[:at] + word[at + 1 :], word[: at + 1] + word[at:]
    return draw.choice([swapped, dropped, doubled] if swapped != word else [dropped, doubled])


def _swapped(case: Case, changed: Case) -> Case | None:
    if changed == case:
        return None
    own: dict[str, Any] = {**case.subgroups, **subgroups(changed.sex, changed.age_years)}
    return dataclasses.replace(changed, subgroups=own)


def _other_word(match: re.Match[str]) -> str:
    word = match[0]
    if word in _ABBREVIATIONS and not match.string.isupper():
        return word
    if word[-1] in "FM" and word.lower() not in _WORDS:
        if word.strip() == "F" and _is_temperature(match.string, match.start()):
            return word
        return word[:-1] + ("M" if word[-1] == "F" else "F")
    if word.lower() == "her":
        other = "him" if _ALONE.match(match.string, match.end()) else "his"
    else:
        other = _WORDS.get(word.lower(), word)
    return other.upper() if word.isupper() and len(word) > 1 else other.capitalize() if word[0].isupper() else other


def _years(match: re.Match[str]) -> str:
    return str(match["a"] or match["b"])
