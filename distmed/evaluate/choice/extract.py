"""What a generated answer says: fixed rules, the same for every model and never tuned to one.

Text flows in; one of the candidates flows out, or None where no rule applies, which counts as answered wrongly.
"""

from __future__ import annotations

import re
from collections.abc import Sequence


def extract(text: str, candidates: Sequence[str], options: Sequence[str]) -> str | None:
    """The first rule that applies decides.

    1. `answer is X`, `answer: X` (the last one written), with or without brackets or `option`.
    2. The text begins with X, and X ends there: `B`, `B.`, `(B)`, `**B**`; for words also `Yes, because …`.
    3. The text begins with an option in full, or it holds exactly one of them.

    A letter must be a capital unless it is in brackets, and `A` before a word is an article, no answer.
    """
    text = text.strip()
    letters = all(len(candidate) == 1 for candidate in candidates)
    one = "|".join(map(re.escape, sorted(candidates, key=len, reverse=True)))
    end = r"(?=\s*(?:[).:,;\]*]|\n|$))" if letters else r"\b"
    case = "" if letters else "(?i:"
    choice = rf"(?:[(\[]\s*(?i:(?P<bracket>{one}))\s*[)\]]|{case}(?P<bare>{one}){')' if case else ''}{end})"
    said = list(re.finditer(rf"(?i:answer(?:\s+is)?)\s*:?\s*(?i:option\s+)?[*\"']*{choice}", text))
    found = said[-1] if said else re.match(rf"[*\"']*(?i:option\s+)?{choice}", text)
    if found:
        return _candidate(found["bracket"] or found["bare"], candidates)
    return _by_option(text, candidates, options)


def _candidate(found: str, candidates: Sequence[str]) -> str:
    return next(candidate for candidate in candidates if candidate.lower() == found.lower())


def _by_option(text: str, candidates: Sequence[str], options: Sequence[str]) -> str | None:
    plain = _plain(text)
    wanted = [(candidate, _plain(option)) for candidate, option in zip(candidates, options, strict=False)]
    begins = [candidate for candidate, option in wanted if option and _begins(plain, option)]
    holds = [candidate for candidate, option in wanted if option and f" {option} " in f" {plain} "]
    for found in (begins, holds):
        if len(found) == 1:
            return found[0]
    return None


def _begins(text: str, option: str) -> bool:
    return text == option or text.startswith(f"{option} ")


def _plain(text: str) -> str:
    """Words and numbers in lower case: punctuation does not make another answer."""
    return " ".join(re.findall(r"[^\W_]+", text.lower()))
