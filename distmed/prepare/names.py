"""Names of persons, by what stands around them (name_patterns.py) and by what they cannot be (name_words.py, eponyms.py).

Text flows in, spans flow out. Without a model a bare name in running prose cannot be known; but once a name is found
in a case, `deidentify.py` looks for it in the whole case.
"""

from __future__ import annotations

from collections.abc import Iterator

import regex

from distmed.prepare.eponyms import followed_by_eponym_noun, is_eponym
from distmed.prepare.name_patterns import FINDERS, LISTED
from distmed.prepare.name_words import GIVEN, NOT_ALONE, NOT_NAMES, PHRASE_WORDS
from distmed.prepare.patterns import TIMEOUT_S

_COMPILED = tuple((regex.compile(pattern, regex.MULTILINE), score, asked) for pattern, score, asked in FINDERS)
_LIST, _LISTED = map(regex.compile, LISTED)
_GIVEN = regex.compile(GIVEN)
_PARTICIPLE = regex.compile(r"\p{L}{3,}(?:ed|ing)")
_CLINICAL_ENDING = regex.compile(
    r"(?i)\p{L}{2}(?:\p{L}{2}[ts]ions?|osis|pathy|ectomy|[ao]scopy|graphy|[ot]tomy|[ot]stomy|plasty|lysis|trophy|plegia|algia|"
    r"rrhea|rrhage|phagia|pnea|penia|megaly|cardia|therapy|graphs?)$"
)
_MODAL = regex.compile(
    r"May\s+(?:be|have|not|need|also|take|resume|continue|return|use|require|benefit|eat|shower|drive|start|stop)\b"
)
_TOKEN = regex.compile(r"[\p{L}.'’-]+")


def find_names(text: str) -> Iterator[tuple[int, int, float]]:
    """Start, end and score of each span that looks like a person's name; spans may overlap. Raises TimeoutError."""
    for pattern, score, asked in _COMPILED:
        at = 0
        while match := pattern.search(text, at, timeout=TIMEOUT_S):
            span = _trimmed(text, match.start(), match.end(), asked)
            at = span[1] if span else match.end()
            if span is None or (asked == "likely" and is_eponym(text, *span)):
                continue
            if asked not in ("sure", "likely") and followed_by_eponym_noun(text, span[1]):
                continue
            yield (*span, score)
    for listed in _LIST.finditer(text, timeout=TIMEOUT_S):
        for match in _LISTED.finditer(text, *listed.span()):
            yield (*match.span(), 0.9)


def tokens_of(name: str) -> list[str]:
    """The words of a name, without initials, particles and suffixes."""
    words = [match[0].strip(".'’") for match in _TOKEN.finditer(name)]
    return [
        word for word in words if len(word) > 2 and word.lower() not in NOT_NAMES and word not in {"III", "Jr", "Sr"}
    ]


def _trimmed(text: str, start: int, end: int, asked: str) -> tuple[int, int] | None:
    """The span up to the first word that is no name; None if what is left is not what is asked for (see `Finder`)."""
    last, words, strict = start, 0, asked in ("two", "kin", "one")
    for match in _TOKEN.finditer(text, start, end):
        word = match[0].strip(".'’")
        phrase = strict and _of_phrase(word)
        if len(word) > 1 and (phrase or word.lower() in NOT_NAMES or (words and _MODAL.match(text, match.start()))):
            if phrase and words == 1:
                return None
            break
        last, words = match.end(), words + 1
    while last > start and text[last - 1] in " ,'’-":
        last -= 1
    kept = text[start:last]
    if (asked == "one" and _fills(kept)) or (asked == "kin" and words == 1 and not _GIVEN.fullmatch(kept)):
        return None
    return (start, last) if any(len(word) > 1 for word in regex.findall(r"\p{L}+", kept)) else None


def _of_phrase(word: str) -> bool:
    """Whether it is a word of clinical phrases."""
    return word.lower() in PHRASE_WORDS or _CLINICAL_ENDING.search(word) is not None


def _fills(word: str) -> bool:
    """Whether it stands where a name would, and says that there is none."""
    return word.lower() in NOT_ALONE or _PARTICIPLE.fullmatch(word) is not None
