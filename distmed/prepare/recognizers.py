"""The analyzer that finds identifiers in clinical text.

Text flows in, typed spans with scores flow out. Nothing is downloaded: patterns, context words and rules only (presidio.py).
"""

from __future__ import annotations

import bisect
import itertools
import logging
import re
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from distmed.errors import UserError
from distmed.prepare.identifiers import LANGUAGE
from distmed.prepare.views import View, views

THRESHOLD = 0.5
BLOCK_CHARS = 4000
"""Long texts are analyzed in blocks: Presidio's search for context words takes a time that is quadratic in the length."""

OVERLAP_CHARS = 200
"""So much of a block, or half of it at least, is analyzed again with the next: what a seam cuts stands whole in one."""

BETWEEN = "\n\0q q q q q q\0\n"
"""Stands between texts that are analyzed together: no pattern crosses it, and no context word is sought beyond six words."""

_BREAK = re.compile(r"\n|(?<=[.;]) ")


class Span(NamedTuple):
    """Characters `start` to `end` of a text are an identifier of this type."""

    start: int
    end: int
    kind: str
    score: float


def require_presidio() -> None:
    """Raises UserError if the extra `privacy` is not installed."""
    import importlib.util

    if importlib.util.find_spec("presidio_analyzer") is None:
        raise UserError(
            "de-identification needs Presidio, which is not installed",
            "pip install 'distmed[privacy]', or --no-deidentify for text without patients",
        )


class Analyzer:
    """Finds identifiers in English clinical text; loading takes about two seconds."""

    def __init__(self) -> None:
        require_presidio()
        from distmed.prepare.presidio import engine

        logging.getLogger("presidio-analyzer").setLevel(logging.ERROR)
        self._engine = engine()

    def spans(self, text: str) -> list[Span]:
        """The identifiers in order, without overlap: those that overlap become one, of the kind of the surest."""
        return self.spans_of([text])[text]

    def spans_of(self, texts: Iterable[str]) -> dict[str, list[Span]]:
        """The identifiers of each text. Short texts are analyzed together, each as if alone: a call costs more than they do."""
        found: dict[str, list[Span]] = {text: [] for text in texts}
        for pieces in _together(piece for text in found for piece in _pieces(text)):
            starts = list(itertools.accumulate((len(piece.block) + len(BETWEEN) for piece in pieces), initial=0))
            joined = BETWEEN.join(piece.block for piece in pieces)
            for result in self._engine.analyze(joined, LANGUAGE, score_threshold=THRESHOLD):
                at = bisect.bisect_right(starts, result.start) - 1
                text, view, start, _ = pieces[at]
                first, last = (view.places[start + place - starts[at]] for place in (result.start, result.end - 1))
                found[text].append(Span(first, last + 1, result.entity_type, round(result.score, 4)))
        return {text: _without_overlap(sorted(spans)) for text, spans in found.items()}


class _Piece(NamedTuple):
    """A block of a view of a text, and where it starts in the view."""

    text: str
    view: View
    start: int
    block: str


def _pieces(text: str) -> Iterator[_Piece]:
    for view in views(text):
        for start, block in _blocks(view.text):
            if block.strip():
                yield _Piece(text, view, start, block)


def _together(pieces: Iterable[_Piece]) -> Iterator[list[_Piece]]:
    """As many pieces at once as a block may be long."""
    run: list[_Piece] = []
    size = 0
    for piece in pieces:
        size += len(piece.block) + len(BETWEEN)
        if run and size > BLOCK_CHARS:
            yield run
            run, size = [], len(piece.block) + len(BETWEEN)
        run.append(piece)
    if run:
        yield run


def _without_overlap(spans: list[Span]) -> list[Span]:
    joined: list[Span] = []
    for span in spans:
        if joined and span.start < joined[-1].end:
            last = joined.pop()
            surest = max(last, span, key=lambda s: (s.score, s.end - s.start))
            span = Span(last.start, max(last.end, span.end), surest.kind, surest.score)
        joined.append(span)
    return joined


def _blocks(text: str) -> Iterator[tuple[int, str]]:
    start = 0
    while len(text) - start > BLOCK_CHARS:
        ends = [match.end() for match in _BREAK.finditer(text, start + BLOCK_CHARS // 2, start + BLOCK_CHARS)]
        end = ends[-1] if ends else start + BLOCK_CHARS
        yield start, text[start:end]
        seam = _BREAK.search(text, end - OVERLAP_CHARS, end - OVERLAP_CHARS // 2)
        start = seam.end() if seam else end - OVERLAP_CHARS
    yield start, text[start:]
