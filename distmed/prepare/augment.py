"""Augment: more training cases for rare classes, each a variant of a real one, deterministic and marked.

A plan (how many copies of which case) comes from counts of labels; then a case flows in and its variants flow out, with
`~1`, `~2`, … after the id and a subgroup `augmented` that says what was changed. Answers and labels are never touched.
"""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from distmed.cases.case import Case
from distmed.prepare.synonyms import swapped

MARK = "augmented"
DROP_FINDING = 0.15


def plan(labels_N: NDArray[np.int32], train_N: NDArray[np.bool_], floor: int) -> NDArray[np.int32]:
    """Copies of each case, so that every label in `train_N` has at least `floor` cases; -1 stands for no label.

    The copies are dealt evenly: two cases of a label differ by one copy at most, the earlier has more.
    """
    copies_N = np.zeros(len(labels_N), dtype=np.int32)
    rows = np.flatnonzero(train_N & (labels_N >= 0))
    rows = rows[np.argsort(labels_N[rows], kind="stable")]
    if not len(rows):
        return copies_N
    _, starts, counts = np.unique(labels_N[rows], return_index=True, return_counts=True)
    for start, count in zip(starts.tolist(), counts.tolist(), strict=True):
        missing = max(0, floor - count)
        each, more = divmod(missing, count)
        copies_N[rows[start : start + count]] = each + (np.arange(count) < more)
    return copies_N


def variants(case: Case, copies: int, seed: int) -> Iterator[Case]:
    """`copies` variants; what changes depends on the seed, the case's id and the copy's number alone."""
    for number in range(1, copies + 1):
        yield _variant(case, number, f"{seed}\0{case.id}\0{number}")


def _variant(case: Case, number: int, key: str) -> Case:
    changed: list[str] = []
    findings, excluded = _findings(case, random.Random(key))
    if set(findings) != set(case.findings) or set(excluded) != set(case.excluded):
        changed.append("dropout")
    elif (findings, excluded) != (case.findings, case.excluded):
        changed.append("order")

    def swap(text: str) -> str:
        new = swapped(text, random.Random(key).random)
        if new != text and "synonyms" not in changed:
            changed.append("synonyms")
        return new

    return dataclasses.replace(
        case,
        id=f"{case.id}~{number}",
        text=swap(case.text),
        findings=tuple(map(swap, findings)),
        excluded=tuple(map(swap, excluded)),
        messages=tuple((role, swap(text) if role == "user" else text) for role, text in case.messages),
        subgroups={**case.subgroups, MARK: " ".join(changed) or "copy"},
    )


def _findings(case: Case, draw: random.Random) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Findings with some left out, at least one stays; and all in another order."""
    found = [f for f in case.findings if draw.random() >= DROP_FINDING] or list(case.findings[:1])
    absent = [f for f in case.excluded if draw.random() >= DROP_FINDING]
    return _in_another_order(found, draw), _in_another_order(absent, draw)


def _in_another_order(items: list[str], draw: random.Random) -> tuple[str, ...]:
    """By `random()` alone: it is the one method that Python promises to keep."""
    return tuple(item for _, item in sorted((draw.random(), item) for item in items))
