"""The stages of single cases: clean, deidentify, and what deduplication and decontamination have to know of a case.

A batch of placed cases flows in, rows of a part and counts flow out. Nothing is remembered from one case to the next, so
that batches can be worked on anywhere, in any order.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path
from typing import Any

from distmed.cases.case import Case
from distmed.errors import UserError
from distmed.prepare.clean import clean
from distmed.prepare.decontaminate import Evaluation, Overlap
from distmed.prepare.deduplicate import content_hash, exact_hash, signatures
from distmed.prepare.patterns import TIMEOUT_S, TooSlowError
from distmed.prepare.read import Placed
from distmed.prepare.settings import Settings
from distmed.prepare.wording import folded_with_signs, hash_of, wording

_EPOCH = date(1970, 1, 1).toordinal()


@dataclass(frozen=True)
class Batch:
    """Rows as `parts.PART_SCHEMA` wants them, and what was dropped and replaced on the way."""

    rows: list[dict[str, Any]]
    stats: dict[str, Any]


class Stages:
    """The stages that the settings turn on; `evaluation` is the folder of hashes where there is one to compare with."""

    def __init__(self, settings: Settings, evaluation: Path | None) -> None:
        self.settings = settings
        self.evaluation = Evaluation.open(evaluation) if evaluation else None
        self.deidentifier = None
        if settings.deidentify:
            from distmed.prepare.deidentify import Deidentifier

            self.deidentifier = Deidentifier()

    def __call__(self, batch: Sequence[Placed]) -> Batch:
        dropped: Counter[str] = Counter()
        identifiers: Counter[str] = Counter()
        kept: list[tuple[Placed, Case]] = []
        for placed in batch:
            case: Case | str = clean(placed.case) if self.settings.clean else placed.case
            if isinstance(case, str):
                dropped[case] += 1
                continue
            public = case
            if self.deidentifier is not None:
                public, found = self._public(placed, case)
                identifiers.update(found)
                public = replace(public, id=placed.place)
            kept.append((replace(placed, case=case), public))
        return Batch(self._rows(kept), {"rows": len(batch), "dropped": dropped, "identifiers": identifiers})

    def _overlap(self, case: Case, public: Case) -> Overlap | None:
        """Of a case as it was read, or without identifiers: an evaluation set may have been prepared before."""
        if self.evaluation is None:
            return None
        return self.evaluation.overlap(case) or (self.evaluation.overlap(public) if self.deidentifier else None)

    def _public(self, placed: Placed, case: Case) -> tuple[Case, Counter[str]]:
        assert self.deidentifier is not None
        try:
            return self.deidentifier(case)
        except TooSlowError:
            raise UserError(
                f"{placed.place} could not be searched for identifiers to the end: a pattern took over {TIMEOUT_S} s",
                "take the row out, or look in its text for a long run of blanks, single letters or marks",
            ) from None

    def _rows(self, kept: list[tuple[Placed, Case]]) -> list[dict[str, Any]]:
        wordings = [wording(public) for _, public in kept]
        texts = [folded_with_signs(words) for words in wordings]
        signed = signatures(texts) if self.settings.deduplicate else [None] * len(texts)
        rows = []
        for (placed, public), text, signature in zip(kept, texts, signed, strict=True):
            own = replace(public, id=placed.case.id)
            overlap = self._overlap(placed.case, public)
            rows.append(
                {
                    **public.to_row(),
                    "place": placed.place,
                    "day": placed.day.toordinal() - _EPOCH if placed.day else None,
                    "exact": exact_hash(own, text),
                    "content": content_hash(own, text),
                    "group_hash": hash_of(placed.case.group),
                    "signature": signature.tobytes() if signature is not None else None,
                    "overlap": overlap.case if overlap else None,
                    "overlap_rule": overlap.rule if overlap else None,
                }
            )
        return rows
