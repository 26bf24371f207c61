"""How a synthetic note is set: as it was written, hard-wrapped, or with the spaces and hyphens of a word processor.

A note flows in, the same note flows out, character by character in the same place, so that its gold spans hold.
"""

from __future__ import annotations

import dataclasses
import random

from tests.prepare.notes import Note

SPACES = "\u00a0\u202f\u2009"
HYPHENS = "\u2011\u2010\u2013"


def wrapped(note: Note, draw: random.Random) -> Note:
    """Every line longer than a width is broken at its last space that fits."""
    width = draw.choice([45, 64, 72, 80])
    letters, start, space = list(note.text), 0, -1
    for at, letter in enumerate(note.text):
        if letter == "\n":
            start, space = at + 1, -1
        elif at - start >= width and space > start:
            letters[space] = "\n"
            start = space + 1
        if letter == " ":
            space = at
    return dataclasses.replace(note, text="".join(letters), layout=f"{note.layout}, wrapped")


def typeset(note: Note, draw: random.Random) -> Note:
    """No line breaks within an identifier, nor before it: its spaces and hyphens are others."""
    letters = list(note.text)
    for span in note.spans:
        space, hyphen = draw.choice(SPACES), draw.choice(HYPHENS)
        for at in range(max(0, span.start - 1), span.end):
            if letters[at] == " ":
                letters[at] = space
            elif letters[at] == "-" and at >= span.start and span.kind not in ("EMAIL", "URL"):
                letters[at] = hyphen
    return dataclasses.replace(note, text="".join(letters), layout=f"{note.layout}, typeset")


SETTINGS = (lambda note, draw: note, wrapped, typeset)
