"""Deciding: which cases stay, into which split they go, and how many copies a rare class gets.

The side columns of all parts flow in, a `Decision` flows out: a few numbers a case, no text. So memory grows by about
100 bytes a case, whatever the length of the texts.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from distmed.errors import UserError, one_of
from distmed.prepare import augment, split
from distmed.prepare.decontaminate import RULES, Evaluation
from distmed.prepare.deduplicate import find_duplicates
from distmed.prepare.parts import Parts
from distmed.prepare.settings import Settings


@dataclass(frozen=True)
class Decision:
    """For each case of the parts its split (-1: dropped), its copies there, and the first case of its group; and for the
    report what was dropped by which stage and rule. `overlaps`: dropped case, rule and evaluation case."""

    split_N: NDArray[np.int8]
    copies_N: NDArray[np.int32]
    group_N: NDArray[np.int64]
    dropped: dict[str, dict[str, int]]
    clusters: int
    conflicts: int
    overlaps: list[tuple[int, int, int]]


def decide(settings: Settings, parts: Parts, evaluation: Evaluation | None) -> Decision:
    """Raises UserError if nothing stays, a split would be empty, or a group would be in two."""
    labels_N = parts.labels()
    stays_N = np.ones(len(labels_N), dtype=bool)
    dropped: dict[str, dict[str, int]] = {}
    clusters = conflicts = 0
    if settings.deduplicate:
        found = find_duplicates(parts.array("exact"), parts.array("content"), labels_N, *parts.signatures())
        clusters, conflicts = found.clusters, found.conflicts
        dropped["deduplicate"] = {"exact": int(found.exact_N.sum()), "near": int(found.near_N.sum())}
        stays_N &= ~(found.exact_N | found.near_N)
    overlaps: list[tuple[int, int, int]] = []
    if evaluation is not None:
        cases_N, rules_N = parts.array("overlap"), parts.array("overlap_rule")
        hits = np.flatnonzero(stays_N & (cases_N >= 0))
        overlaps = list(zip(hits.tolist(), rules_N[hits].tolist(), cases_N[hits].tolist(), strict=True))
        dropped["decontaminate"] = {rule: int((rules_N[hits] == i).sum()) for i, rule in enumerate(RULES)}
        stays_N[hits] = False
    groups_N = parts.array("group_hash")
    split_N = np.full(len(labels_N), -1, dtype=np.int8)
    if stays_N.any():
        split_N[stays_N] = _splits(settings, parts, stays_N, labels_N, groups_N)
        _refuse_empty(settings, split_N, groups_N)
    return Decision(
        split_N=split_N,
        copies_N=augment.plan(labels_N, split_N == 0, settings.augment),
        group_N=_first_rows(groups_N),
        dropped={stage: {rule: n for rule, n in rules.items() if n} for stage, rules in dropped.items()},
        clusters=clusters,
        conflicts=conflicts,
        overlaps=overlaps,
    )


def overlap_lines(parts: Parts, decision: Decision, evaluation: Evaluation) -> Iterator[dict[str, Any]]:
    """The dropped cases that overlap, each by the place of its row, with the place of the evaluation case."""
    places = parts.column("place").take(np.array([row for row, _, _ in decision.overlaps], dtype=np.int64))
    for place, (_, rule, case) in zip(places, decision.overlaps, strict=True):
        yield {"case": place.as_py(), "rule": RULES[rule], "evaluation": evaluation.places[case]}


def _splits(
    settings: Settings,
    parts: Parts,
    stays_N: NDArray[np.bool_],
    labels_N: NDArray[np.int32],
    groups_N: NDArray[np.uint64],
) -> NDArray[np.int8]:
    """The split of each case that stays."""
    if settings.cuts:
        days_N = parts.array("day")
        split_N = split.by_day(days_N[stays_N], settings.cuts)
        split.refuse_shared_groups(groups_N[stays_N], split_N, settings.splits)
        return split_N
    if settings.shares:
        shares = tuple(share for _, share in settings.shares)
        return split.by_group(groups_N[stays_N], labels_N[stays_N], shares, settings.seed)
    return np.zeros(int(stays_N.sum()), dtype=np.int8)


def _refuse_empty(settings: Settings, split_N: NDArray[np.int8], groups_N: NDArray[np.uint64]) -> None:
    empty = [name for i, name in enumerate(settings.splits) if not (split_N == i).any()]
    if empty:
        cases, groups = int((split_N >= 0).sum()), len(np.unique(groups_N[split_N >= 0]))
        raise UserError(
            f"no case would be in {one_of(empty)}: there are {cases} cases in {groups} groups",
            "name fewer splits, larger shares, or other days",
        )


def _first_rows(groups_N: NDArray[np.uint64]) -> NDArray[np.int64]:
    _, first, inverse = np.unique(groups_N, return_index=True, return_inverse=True)
    return first[inverse].astype(np.int64)
