"""Views of a text for patterns that know plain spaces, plain hyphens, unbroken lines and no markup.

A text flows in; it flows out as it is, and once more as a person reads it if that differs: no-break and other spaces as
plain ones, hyphens and dashes of all kinds as "-", the lines of a hard-wrapped paragraph joined, tags, asterisks and the
underscores of labels as blanks, a line break that an export wrote as "\\n" as one. What is found in either counts.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import regex

from distmed.prepare.name_patterns import NAME_FIELD, PARTICLE, TITLE_BEFORE_NAME

NARROWEST = 40
"""A paragraph of shorter lines than this is taken for a list or a form, not for wrapped prose."""

WIDE = 60
"""A line that was full at so many characters is full: a longer one beside it may hold a web address."""

_PLAIN = str.maketrans(
    dict.fromkeys(
        "\u00a0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a\u202f\u205f\u3000", " "
    )
    | dict.fromkeys("\u2010\u2011\u2012\u2013\u2014\u2015\u2212\ufe58\ufe63\uff0d", "-")
)
_ESCAPED = regex.compile(r"\\([nrt])")
_MARK = regex.compile(
    r"(?P<break></?(?:br|p|tr|li|div|h\d)\b[^<>\n]{0,200}>)|(?P<inline></?(?:[abiu]|em|strong|span|font)\b[^<>\n]{0,200}>|&nbsp;)|"
    r"(?P<tag></?[A-Za-z][^<>\n]{0,200}>)|"
    r"\*{2,3}|(?<![\w*])\*(?=\p{L})|(?<=[\p{L}:])\*(?![\w*])|(?<!\w)__?(?=\p{L})|(?<=[\p{L}:])__?(?!\w)|"
    r"(?<=\p{L})_(?=(?:\p{L}{1,12}_)?(?i:names?|mrn|dob|ssn|id|phone|address|age)[\"']?[ ]?[:=])|"
    r"(?<=\p{Ll})(?=(?:Name|MRN|Mrn|DOB|SSN)[\"']?[ ]?[:=])"
)
_ITEM = regex.compile(r"[ \t]*(?:[^\w\s\"'“‘(\[#+$]|\p{Lu}[\w /#&'-]{0,30}(?<![ ]\d{1,2})[:=|])")
"""How a line begins that goes on with nothing: a mark of a list, a label."""
_HYPHEN = regex.compile(r"\w-$")
_FIRST = regex.compile(r"[ \t]*(\S*)")
_TITLE = regex.compile(rf"\b{TITLE_BEFORE_NAME}\.?[ \t]*$")
_HALF_NAME = regex.compile(rf"(?i:\b{NAME_FIELD})[ \t]*[:=|][ \t]*\p{{Lu}}[\p{{L}}'’-]+,?$")
_OTHER_HALF = regex.compile(rf"[ \t]*{PARTICLE}{{0,2}}\p{{Lu}}[\p{{L}}'’-]+(?:[ ]\p{{Lu}}[\p{{L}}'’-]*\.?)?[ \t]*")


_ENDED = regex.compile(r"(?<!\b\p{Lu}\p{Ll}{0,4})[.!?:;][ \t]*$")
"""A sentence ends with the line: nothing goes over it. "Dr." and "Jan." end none."""


class View(NamedTuple):
    """`places[i]`: where the character `i` of this text stands in the original."""

    text: str
    places: Sequence[int]


def plain(text: str) -> str:
    """The text, of the same length, with plain spaces and hyphens only, and a line break or a blank for an escaped one."""
    text = text.translate(_PLAIN)
    return _ESCAPED.sub(lambda escape: "  " if escape[1] == "t" else " \n", text) if "\\" in text else text


def views(text: str) -> Iterator[View]:
    """The text, and the text as it is read where that is another one."""
    yield View(text, range(len(text)))
    unmarked = _unmarked(plain(text))
    wraps = (
        (start, end, "" if _HYPHEN.search(unmarked.text, max(0, start - 2), start) else " ")
        for start, end in _wraps(unmarked.text)
    )
    read = _with(unmarked, wraps)
    if read.text != text:
        yield read


def _unmarked(text: str) -> View:
    """Without tags and other marks."""
    return _with(
        View(text, range(len(text))),
        ((*mark.span(), "\n" if mark["break"] else "  " if mark["tag"] else " ") for mark in _MARK.finditer(text)),
    )


def _with(view: View, changes: Iterable[tuple[int, int, str]]) -> View:
    """The view with other text from start to end of each change; what is put there stands at the start."""
    parts: list[str] = []
    places: list[int] = []
    at = 0
    for start, end, put in changes:
        parts += [view.text[at:start], put]
        places += [*view.places[at:start], *[view.places[start]] * len(put)]
        at = end
    return View("".join([*parts, view.text[at:]]), [*places, *view.places[at:]]) if parts else view


def _wraps(text: str) -> Iterator[tuple[int, int]]:
    """Each line break, with the indentation after it, that a reader reads over."""
    at = 0
    for blank, group in itertools.groupby(text.split("\n"), key=lambda line: not line.strip()):
        lines = list(group)
        longest = max(map(len, lines))
        for line, following in itertools.pairwise([*lines, ""]):
            at += len(line) + 1
            if not blank and following and _goes_on(line, following, longest):
                yield at - 1, at + len(following) - len(following.lstrip(" \t"))


def _goes_on(line: str, following: str, longest: int) -> bool:
    """Whether a line was broken for want of room, or between the parts of a name."""
    if _TITLE.search(line) or (_HALF_NAME.search(line) and _OTHER_HALF.fullmatch(following)):
        return True
    if longest < NARROWEST or _ENDED.search(line) or _ITEM.match(following):
        return False
    first = _FIRST.match(following)
    return first is not None and len(line) + 1 + len(first[1]) >= min(longest, WIDE)
