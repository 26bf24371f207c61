"""Solved examples before a question: the same few for all by seed, or the most similar ones for each.

Labeled questions of a train split flow in, k of them for each case flow out. A question is never shown its own answer: neither
itself nor a copy of its text is among its examples.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from distmed.cases.case import Case
from distmed.errors import UserError
from distmed.recipe import Choice

COPIES = 16
"""How many of a case's nearest may be copies of it before fewer than k examples are left."""


class Shots:
    """The examples of a recipe, drawn from `train`. Without any (choice.shots=0) train may be empty."""

    def __init__(self, train: list[Case], settings: Choice) -> None:
        self.k = settings.shots
        self.nearest = settings.shot_choice == "nearest"
        pool = [case for case in train if case.kind == "choice" and case.label is not None] if self.k else []
        if len(pool) < self.k:
            raise UserError(
                f"choice.shots={self.k}, but train has {len(pool)} solved questions",
                "name a train split with enough of them (--train), or lower choice.shots",
            )
        if self.k and self.nearest:
            from sklearn.feature_extraction.text import TfidfVectorizer

            self._words = TfidfVectorizer(sublinear_tf=True)
            self._pool_words = self._words.fit_transform([_text(case) for case in pool])
        elif self.k:
            pool = [pool[place] for place in np.random.default_rng(settings.shot_seed).permutation(len(pool))]
        self.pool = pool

    def of(self, cases: list[Case]) -> list[tuple[Case, ...]]:
        """Examples of each case, the most similar one last, next to the question."""
        if not self.k:
            return [()] * len(cases)
        if not self.nearest:
            return [self._others(case, iter(self.pool)) for case in cases]
        similarity_NM = (self._words.transform([_text(case) for case in cases]) @ self._pool_words.T).toarray()
        wanted = min(self.k + COPIES, len(self.pool))
        # Stable, so that ties fall the same way on every machine.
        order_NM = np.argsort(-similarity_NM, axis=1, kind="stable")[:, :wanted]
        return [
            self._others(case, (self.pool[place] for place in order_M))[::-1]
            for case, order_M in zip(cases, order_NM, strict=True)
        ]

    def _others(self, case: Case, pool: Iterator[Case]) -> tuple[Case, ...]:
        found: list[Case] = []
        for other in pool:
            if other.id != case.id and _plain(other.text) != _plain(case.text):
                found.append(other)
                if len(found) == self.k:
                    break
        return tuple(found)


def _text(case: Case) -> str:
    return "\n".join((case.text, *case.options))


def _plain(text: str) -> str:
    return " ".join(text.lower().split())
