"""The analyzer that finds identifiers in clinical text.

Text flows in, typed spans with scores flow out. Nothing is downloaded: patterns, context words and rules only (presidio.py).
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from typing import NamedTuple

from distmed.errors import UserError
from distmed.prepare.identifiers import LANGUAGE
from distmed.prepare.views import View, views

THRESHOLD = 0.5
BLOCK_CHARS = 4000
"""Long texts are analyzed in blocks: Presidio's search for context words takes a time that is quadratic in the length."""

OVERLAP_CHARS = 200
"""So much of a block, or half of it at least, is analyzed again with the next: what a seam cuts stands whole in one."""

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
        found = sorted(span for view in views(text) for span in self._in_view(view))
        joined: list[Span] = []
        for span in found:
            if joined and span.start < joined[-1].end:
                last = joined.pop()
                surest = max(last, span, key=lambda s: (s.score, s.end - s.start))
                span = Span(last.start, max(last.end, span.end), surest.kind, surest.score)
            joined.append(span)
        return joined

    def _in_view(self, view: View) -> Iterator[Span]:
        for at, block in _blocks(view.text):
            if not block.strip():
                continue
            for result in self._engine.analyze(block, LANGUAGE, score_threshold=THRESHOLD):
                start, end = view.places[at + result.start], view.places[at + result.end - 1] + 1
                yield Span(start, end, result.entity_type, round(result.score, 4))


def _blocks(text: str) -> Iterator[tuple[int, str]]:
    start = 0
    while len(text) - start > BLOCK_CHARS:
        ends = [match.end() for match in _BREAK.finditer(text, start + BLOCK_CHARS // 2, start + BLOCK_CHARS)]
        end = ends[-1] if ends else start + BLOCK_CHARS
        yield start, text[start:end]
        seam = _BREAK.search(text, end - OVERLAP_CHARS, end - OVERLAP_CHARS // 2)
        start = seam.end() if seam else end - OVERLAP_CHARS
    yield start, text[start:]
