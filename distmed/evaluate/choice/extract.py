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

    A letter must be a capital unless it is in brackets, and `A` before a word is an article, no answer. Neither is what may
    begin a name (`D-dimer`; `C. difficile`: a point and a word in lower case that does not begin the letter's own option), nor
    the first letter of a list (`B, C`). Emphasis (`*`, `_`) says nothing.
    """
    text = re.sub(r"[*_]", "", text).strip()
    letters = all(len(candidate) == 1 for candidate in candidates)
    one = "|".join(map(re.escape, sorted(candidates, key=len, reverse=True)))
    listed = rf",\s*(?:(?:and|or)\s+)?(?:{one})\b"
    end = rf"(?=\s*(?:[).:;\]!—–]|(?!{listed}),|\n|$))" if letters else r"\b"
    case = "" if letters else "(?i:"
    choice = rf"(?:[(\[]\s*(?i:(?P<bracket>{one}))\s*[)\]]|{case}(?P<bare>{one}){')' if case else ''}{end})"
    said = list(re.finditer(rf"(?i:answer(?:\s+is)?)\s*:?\s*(?i:option\s+)?[\"']*{choice}", text))
    found = said[-1] if said else re.match(rf"[\"']*(?i:option\s+)?{choice}", text)
    if found:
        place = _place(found["bracket"] or found["bare"], candidates)
        if not (letters and _may_be_a_name(text[found.end() :], options[place : place + 1])):
            return candidates[place]
    return _by_option(text, candidates, options)


def _place(found: str, candidates: Sequence[str]) -> int:
    return [candidate.lower() for candidate in candidates].index(found.lower())


def _may_be_a_name(rest: str, own: Sequence[str]) -> bool:
    """Whether a letter that `rest` follows may be the first of a name: `. difficile`, unless its own option follows."""
    word = re.match(r"[ \t]*[.!][ \t]*[\"']*(?=[^\W\d_])(?P<rest>.*)", rest)
    if not word or not word["rest"][0].islower():
        return False
    return not any(_plain(option) and _begins(_plain(word["rest"]), _plain(option)) for option in own)


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
