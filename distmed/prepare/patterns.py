"""How patterns of identifiers are written: a label that gives one away, and what may stand as its value.

Building blocks for the tables of patterns. `\\K` starts the match: the label before it stays in the text. A pattern below
0.5 counts only where one of the type's context words stands before it.
"""

from __future__ import annotations

import re
from typing import NamedTuple

TIMEOUT_S = 60
"""What one pattern may take for a block of text."""


class TooSlowError(Exception):
    """A pattern could not be sought to the end of a text: its identifiers would stay."""


class Patterns(NamedTuple):
    """`found`: (regular expression, score); `context`: words that raise a score by 0.35 where they stand shortly before."""

    found: tuple[tuple[str, float], ...]
    context: tuple[str, ...] = ()


_AFTER = r"[ \t]*+(?:[\"'][ \t]*+)?[:#=|–-]*+\s*+[\"']?"
"""Possessive: blanks are never tried twice, so that a long gap behind a label costs no time."""
MARK = rf"(?:[ \t_]*+(?:numbers?|num\.?|no\.?|nr\.?|ids?|identifiers?|is|was|#))*{_AFTER}"
"""What may stand between a label and its value: "MRN #: ", "Account number is ", a line break of a table."""
STRICT = rf"(?:[ \t_]*+(?:numbers?|num\.?|no\.?|nr\.?|ids?|identifiers?|#))+(?:[ \t]++is)?{_AFTER}"
"""The same for labels that are common words, which need a "number", "ID" or "#"."""
VALUE = r"(?=[A-Za-z/-]{0,8}\d)(?!\d{1,2}/\d{1,2}/)[A-Za-z0-9][A-Za-z0-9/-]{3,}\b"
SPACED = (
    r"(?:\d{2,4}(?:[ ]\d{2,4}){1,3}\b(?![-/]\d)|[A-Z]{1,4}[ ](?:\d{3,}|\d{2}(?=[ ]\d\d))(?:[ ]\d{2,})*(?:-[A-Z0-9]+)*\b|"
    rf"{VALUE})"
)


def labeled(labels: str, value: str = VALUE, mark: str = MARK) -> str:
    """The value after one of the labels, whose words may also be joined by `_` as in an export."""
    joined = re.sub(r"(?<!\[) (?![\]\\])", "[ _]", labels).replace("[ \\t]", "[ \\t_]")
    return rf"(?i:(?<!\w)(?:{joined})(?:\(s\))?{mark})\K{value}"
