"""Perturbed: the same cases in other words, and how often the answer changes.

Cases, a scorer and the answers to the cases as they are flow in; rows of the sections `robustness` and `counterfactual`
flow out.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from distmed.cases.case import Case
from distmed.evaluate.bootstrap import draws, mean, share

SEED = 1
CASES = 100
"""At most so many cases are put again in each way: a fixed few, chosen by the hash of their ids."""

Perturb = Callable[[Case, int], Case | None]
Answer = Callable[[list[Case], str], list[str]]
"""What the model answers to cases; the text says what is being done."""


def chosen(cases: Sequence[Case]) -> list[int]:
    """Places of the cases that are perturbed, in order."""
    by_hash = sorted(range(len(cases)), key=lambda n: hashlib.blake2b(cases[n].id.encode(), digest_size=8).digest())
    return sorted(by_hash[:CASES])


def perturbed(
    cases: Sequence[Case], gold: Sequence[str], before: Sequence[str], ways: Mapping[str, Perturb], answer: Answer
) -> list[dict[str, Any]]:
    """A row for every way that applies to at least one case: accuracy before and after, its change, the rate of changed
    answers. `gold` and `before` are labels of the model."""
    changed = {
        name: [(n, other) for n, case in enumerate(cases) if (other := way(case, SEED)) is not None]
        for name, way in ways.items()
    }
    every = [case for pairs in changed.values() for _, case in pairs]
    after = iter(answer(every, "putting cases in other words") if every else [])
    rows = []
    for name, pairs in changed.items():
        if not pairs:
            continue
        places = [n for n, _ in pairs]
        answers = np.array([next(after) for _ in pairs], dtype=object)
        truth, former = (np.array([of[n] for n in places], dtype=object) for of in (gold, before))
        right_before_N, right_after_N = former == truth, answers == truth
        groups = [cases[n].group for n in places]
        weights_BN = draws(groups)
        change_N = right_after_N.astype(np.float32) - right_before_N.astype(np.float32)
        rows.append(
            {
                "name": name,
                "n": len(places),
                "before": float(right_before_N.mean()),
                "after": float(right_after_N.mean()),
                "change": mean(change_N, weights_BN, len(set(groups))),
                "flips": share(answers != former, weights_BN, groups),
            }
        )
    return rows
