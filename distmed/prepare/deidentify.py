"""Deidentify: identifiers of patients and those around them become typed surrogates, `[NAME-1]`, `[DATE-2]`, `[AGE-90+]`.

A case flows in, the case with surrogates and counts by type flow out. The same name or number has the same surrogate
in all texts of a case. Surrogates are numbered, not derived from what they stand for, so nothing leads back.
"""

from __future__ import annotations

import dataclasses
import re
from collections import Counter

import regex

from distmed.cases.case import Case
from distmed.prepare.clean import texts_mapped
from distmed.prepare.eponyms import is_eponym
from distmed.prepare.name_words import ABBREVIATIONS, AMBIGUOUS
from distmed.prepare.names import tokens_of
from distmed.prepare.recognizers import Analyzer, Span
from distmed.prepare.views import plain

OLDEST = 89
"""The greatest age that Safe Harbor lets stand, in years."""

_OLD = "[AGE-90+]"
_PLAIN = re.compile(
    r"(?!.*(?:[Nn]inet|[Hh]undred|enarian)|January|February|September|October|November|December|Christmas|Thanksgiving|"
    r"Halloween|Easter)[A-Za-z]?[a-z ,;()/'?-]*"
)
_ACTS = re.compile(
    r"\s(?:denie[sd]|report(?:s|ed)|state[sd]|agree[sd]|complain(?:s|ed)|present(?:s|ed)|lives|return(?:s|ed)|"
    r"declined?s?|verbalize[sd]|tolerated|called|came|says|said|has been|will|is an?\b|"
    r"was (?:seen|admitted|discharged|found|brought|referred|born|told))"
)
_STRONG = 0.7
"""The score from which a single word is surely a name."""

_SHORT = 4
"""Letters of a word that in capitals may be an abbreviation."""

_NOT_WORD = re.compile(r"[\W_]+")


class Deidentifier:
    """The stage; holds the analyzer, and nothing of the cases it has seen."""

    def __init__(self) -> None:
        self._analyzer = Analyzer()

    def __call__(self, case: Case) -> tuple[Case, Counter[str]]:
        """The case without identifiers in its texts, an age over 89 as 90; how many were replaced, by type."""
        texts = dict.fromkeys(text for text in _texts(case) if text)
        untouched = {finding for finding in (*case.findings, *case.excluded) if _is_plain(finding)}
        untouched -= {case.text, *case.options, *(content for _, content in case.messages)}
        spans = self._analyzer.spans_of(text for text in texts if text not in untouched)
        names = {name for text in spans for name in names_of(text, spans[text])}
        surrogates = Surrogates()
        found: Counter[str] = Counter()
        replaced: dict[str, str] = {"": ""}
        for text in texts:
            every = with_names(text, spans.get(text, []), names)
            found.update(span.kind for span in every)
            replaced[text] = surrogates.put(text, every)
        public = texts_mapped(case, replaced.__getitem__)
        if case.age_years is not None and case.age_years > OLDEST:
            public = dataclasses.replace(public, age_years=float(OLDEST + 1))
            found["AGE"] += 1
        return public, found


class Surrogates:
    """The surrogates of one case: numbered by type in the order in which they appear."""

    def __init__(self) -> None:
        self._numbers: dict[tuple[str, str], int] = {}
        self._counts: Counter[str] = Counter()
        self._people: dict[str, int] = {}

    def put(self, text: str, spans: list[Span]) -> str:
        """The text with a surrogate in the place of each span."""
        parts, at = [], 0
        for span in spans:
            parts += [text[at : span.start], self.of(span.kind, text[span.start : span.end])]
            at = span.end
        return "".join([*parts, text[at:]])

    def of(self, kind: str, value: str) -> str:
        if kind == "AGE":
            return _OLD
        if kind == "NAME":
            return f"[NAME-{self._person(value)}]"
        key = (kind, _NOT_WORD.sub("", value.casefold()))
        if key not in self._numbers:
            self._counts[kind] += 1
            self._numbers[key] = self._counts[kind]
        return f"[{kind}-{self._numbers[key]}]"

    def _person(self, name: str) -> int:
        """John Smith, Smith and SMITH, JOHN are one person; the family name decides, the given name only if alone."""
        words = [word.casefold() for word in tokens_of(name)] or [name.casefold()]
        if "," in name:
            words = [*words[1:], words[0]]
        whole = " ".join(words)
        number = self._people.get(whole) or self._people.get(words[-1]) if len(words) == 1 else self._people.get(whole)
        if number is None:
            self._counts["NAME"] += 1
            number = self._counts["NAME"]
        for key in (whole, words[-1], words[0]):
            self._people.setdefault(key, number)
        return number


def names_of(text: str, spans: list[Span]) -> set[str]:
    """The names to look for in the whole case: not a single word that was but weakly taken for one."""
    found = {text[span.start : span.end] for span in spans if span.kind == "NAME" and span.score >= _STRONG}
    return found | {
        name for span in spans if span.kind == "NAME" and len(tokens_of(name := text[span.start : span.end])) > 1
    }


def with_names(text: str, spans: list[Span], names: set[str]) -> list[Span]:
    """The spans, and every other place of the text where one of the names stands."""
    if not names:
        return spans
    read = plain(text).replace("\n", " ")
    names = {plain(name).replace("\n", " ") for name in names}
    words = {word for name in names for word in tokens_of(name)}
    loud = {name for name in names if name.isupper() and name.lower() in ABBREVIATIONS}
    forms = (names - loud).union(*map(_forms, words))
    pattern = regex.compile(r"(?<![\p{L}\d])(?:\L<forms>)(?![\p{L}\d])", forms=sorted(forms))
    every = list(spans)
    for match in pattern.finditer(read):
        start, end = match.span()
        if any(span.start < end and start < span.end for span in spans) or is_eponym(text, start, end):
            continue
        if match[0].casefold() in AMBIGUOUS and _begins_sentence(text, start) and not _ACTS.match(text, end):
            continue
        every.append(Span(start, end, "NAME", 0.6))
    return sorted(every)


def _forms(word: str) -> set[str]:
    """How a word of a name may be written. In capitals a short one may be an abbreviation, as ALI, TIA and SAH are."""
    if len(word) > _SHORT:
        return {word, word.upper(), word.capitalize()}
    return {word.capitalize()} if word.lower() in ABBREVIATIONS else {word, word.capitalize()}


def _begins_sentence(text: str, at: int) -> bool:
    before = text[:at].rstrip(" \t-•*")
    return not before or before[-1] in ".!?:\n"


def _is_plain(finding: str) -> bool:
    """Findings are many: one of some lower-case words, as most are, holds no identifier that a pattern could find."""
    return len(finding) <= 80 and _PLAIN.fullmatch(finding) is not None


def _texts(case: Case) -> list[str]:
    return [case.text, *case.findings, *case.excluded, *case.options, *(content for _, content in case.messages)]
