"""Clean: the text of a case in one Unicode form, without mojibake and control characters.

A case flows in, the cleaned case flows out, or the rule by which it is dropped.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable

import ftfy

from distmed.cases.case import Case

MAX_CHARS = 200_000
"""About 50,000 tokens: a longer text is a whole archive in one cell, or a broken export."""

_INVISIBLE = dict.fromkeys([0xAD, 0x200B, 0x200C, 0x200D, 0x2060, 0xFEFF])
_TRAILING = re.compile(r"[ \t\u00a0]+$", re.MULTILINE)
_WORD = re.compile(r"\w")


def clean(case: Case) -> Case | str:
    """The case with clean text, or why it is left out: `empty text`, `text too long`, `unreadable text`."""
    if sum(map(len, _read(case))) + sum(len(answer) for _, answer in case.messages[-1:]) > MAX_CHARS:
        return "text too long"
    case = texts_mapped(case, cleaned)
    read = "".join(_read(case))
    if not _WORD.search(read):
        return "empty text"
    if read.count("\N{REPLACEMENT CHARACTER}") > len(read) / 10:
        return "unreadable text"
    if case.messages and not _WORD.search(case.messages[-1][1]):
        return "no answer"
    return case


def cleaned(text: str) -> str:
    """ftfy's repairs (mojibake, NFC, control characters, line ends), then no invisible characters and no trailing blanks."""
    return _TRAILING.sub("", ftfy.fix_text(text).translate(_INVISIBLE)).strip()


def texts_mapped(case: Case, change: Callable[[str], str]) -> Case:
    """The case with every text in it changed, save ids and labels; a finding that becomes empty goes."""
    return dataclasses.replace(
        case,
        text=change(case.text),
        findings=tuple(filter(None, map(change, case.findings))),
        excluded=tuple(filter(None, map(change, case.excluded))),
        options=tuple(map(change, case.options)),
        messages=tuple((role, change(content)) for role, content in case.messages),
    )


def _read(case: Case) -> list[str]:
    return [case.text, *case.findings, *case.excluded, *(content for _, content in case.messages[:-1])]
