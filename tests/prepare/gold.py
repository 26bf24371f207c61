"""Scores of de-identification against gold spans: recall and precision by type, and false hits by clinical token."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from distmed.prepare.recognizers import Span
from tests.prepare.notes import Note


@dataclass
class Scores:
    """`recalled`: gold spans of which every letter and digit was replaced; `right`: replaced spans on gold of their type."""

    gold: Counter[str] = field(default_factory=Counter)
    recalled: Counter[str] = field(default_factory=Counter)
    replaced: Counter[str] = field(default_factory=Counter)
    right: Counter[str] = field(default_factory=Counter)
    clinical_tokens: int = 0
    false_tokens: int = 0
    missed: list[str] = field(default_factory=list)

    @property
    def recall(self) -> float:
        return self.recalled.total() / self.gold.total()

    @property
    def precision(self) -> float:
        return self.right.total() / self.replaced.total()

    def add(self, note: Note, found: Iterable[Span]) -> None:
        found = list(found)
        covered = {i for span in found for i in range(span.start, span.end)}
        gold = {i: span.kind for span in note.spans for i in range(span.start, span.end)}
        for span in note.spans:
            self.gold[span.kind] += 1
            if all(i in covered for i in range(span.start, span.end) if note.text[i].isalnum()):
                self.recalled[span.kind] += 1
            else:
                self.missed.append(f"{note.layout}: {span.kind} {note.text[max(0, span.start - 25) : span.end + 15]!r}")
        for hit in found:
            self.replaced[hit.kind] += 1
            self.right[hit.kind] += any(gold.get(i) == hit.kind for i in range(hit.start, hit.end))
        for token in re.finditer(r"\S+", note.text):
            if not any(i in gold for i in range(*token.span())):
                self.clinical_tokens += 1
                self.false_tokens += any(i in covered for i in range(*token.span()))

    def table(self) -> str:
        lines = [f"{'type':8} {'gold':>5} {'recall':>7} {'precision':>9}"]
        for kind in sorted(self.gold):
            precision = self.right[kind] / max(1, self.replaced[kind])
            lines.append(f"{kind:8} {self.gold[kind]:5} {self.recalled[kind] / self.gold[kind]:7.4f} {precision:9.4f}")
        lines.append(f"{'all':8} {self.gold.total():5} {self.recall:7.4f} {self.precision:9.4f}")
        lines.append(f"false hits: {self.false_tokens} of {self.clinical_tokens} clinical tokens")
        return "\n".join(lines)
