"""Decontaminate: which cases overlap with an evaluation set, by a run of 13 words or of 64 characters.

Evaluation cases flow in once and become sorted arrays of hashes in a folder, which every process maps; then a case's
text flows in, and the evaluation case it shares a run with flows out.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from distmed.cases.case import Case
from distmed.errors import UserError
from distmed.prepare.read import Placed
from distmed.prepare.wording import character_runs, folded, hash_of, word_runs, wordings

WORDS, CHARACTERS = _LENGTHS = 13, 64
RULES = ("13 words", "64 characters", "whole text")
BOILERPLATE = 10
"""A run in more evaluation cases than these is a phrase of the data set, not a case; nor is a run that is half such."""

MIN_FINDINGS = 8
"""Findings are compared as a whole; two patients may well share a shorter list."""

_NAMES = "evaluation.json"
_NONE = np.empty(0, dtype=np.uint64)


@dataclass(frozen=True)
class Overlap:
    """The rule (an index into RULES) and the evaluation case (an index into `Evaluation.places`)."""

    rule: int
    case: int


@dataclass(frozen=True)
class Evaluation:
    """`runs`: for each rule the sorted hashes and beside each its evaluation case. `ignored`: runs that are boilerplate."""

    places: list[str]
    ignored: int
    runs: tuple[tuple[NDArray[np.uint64], NDArray[np.int32]], ...]

    def overlap(self, case: Case) -> Overlap | None:
        """The first overlap of a case."""
        for rule, hashes_R in ((rule, hashes) for runs in _runs(case) for rule, hashes in enumerate(runs)):
            known_K, cases_K = self.runs[rule]
            if not len(hashes_R) or not len(known_K):
                continue
            at_R = np.minimum(np.searchsorted(known_K, hashes_R), len(known_K) - 1)
            hits = np.flatnonzero(known_K[at_R] == hashes_R)
            if len(hits):
                return Overlap(rule, int(cases_K[at_R[hits[0]]]))
        return None

    @classmethod
    def open(cls, folder: Path) -> Evaluation:
        """What `build` left in the folder, mapped."""
        values = json.loads((folder / _NAMES).read_text(encoding="utf-8"))
        runs = tuple(
            (_mapped(folder / f"hashes-{rule}.npy"), _mapped(folder / f"cases-{rule}.npy"))
            for rule in range(len(RULES))
        )
        return cls(values["places"], values["ignored"], runs)


def build(sets: Iterable[tuple[str, Iterable[Placed]]], folder: Path) -> list[int]:
    """Hash the cases of the evaluation sets, each with its name, into the folder; the file that `is_built` looks for
    comes last. Returns how many cases of each have nothing to compare; raises UserError if that is all of a set."""
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    places: list[str] = []
    found: list[list[NDArray[np.uint64]]] = [[] for _ in RULES]
    owners: list[int] = []
    bare: list[int] = []
    for name, cases in sets:
        before = len(owners)
        bare.append(0)
        for placed in cases:
            of_case = _runs(placed.case)
            bare[-1] += not of_case
            for runs in of_case:
                owners.append(len(places))
                for rule, hashes_R in enumerate(runs):
                    found[rule].append(hashes_R)
            places.append(placed.place)
        if len(owners) == before:
            raise UserError(
                f"{name}: none of its cases can be compared",
                f"name one with texts or {MIN_FINDINGS} findings a case; --without-format says how it is read",
            )
    ignored = 0
    for rule, by_wording in enumerate(found):
        hashes_H = np.concatenate(by_wording)
        cases_H = np.repeat(np.array(owners, dtype=np.int32), [len(hashes) for hashes in by_wording])
        if rule < len(_LENGTHS):
            phrases_P = _phrases(hashes_H, cases_H)
            ignored += len(phrases_P)
            kept_H = np.concatenate([~_near(np.isin(hashes, phrases_P), _LENGTHS[rule] // 2) for hashes in by_wording])
            hashes_H, cases_H = hashes_H[kept_H], cases_H[kept_H]
        known_K, first_K = np.unique(hashes_H, return_index=True)
        np.save(folder / f"hashes-{rule}.npy", known_K)
        np.save(folder / f"cases-{rule}.npy", cases_H[first_K])
    (folder / _NAMES).write_text(json.dumps({"places": places, "ignored": ignored}), encoding="utf-8")
    return bare


def is_built(folder: Path) -> bool:
    return (folder / _NAMES).is_file()


def _phrases(hashes_H: NDArray[np.uint64], cases_H: NDArray[np.int32]) -> NDArray[np.uint64]:
    """The hashes that are in more than BOILERPLATE cases."""
    order_H = np.lexsort((cases_H, hashes_H))
    sorted_H, of_H = hashes_H[order_H], cases_H[order_H]
    again_H = np.zeros(len(order_H), dtype=bool)
    again_H[1:] = (sorted_H[1:] == sorted_H[:-1]) & (of_H[1:] == of_H[:-1])
    known_K, counts_K = np.unique(sorted_H[~again_H], return_counts=True)
    return known_K[counts_K > BOILERPLATE]


def _near(marked_R: NDArray[np.bool_], reach: int) -> NDArray[np.bool_]:
    """The runs that begin at most `reach` from one that is marked."""
    if not marked_R.any():
        return marked_R
    before = np.concatenate([[0], np.cumsum(marked_R)])
    at = np.arange(len(marked_R))
    return before[np.minimum(at + reach + 1, len(marked_R))] > before[np.maximum(at - reach, 0)]


def _runs(case: Case) -> list[tuple[NDArray[np.uint64], ...]]:
    """For the findings and for each wording of a case its hashes by rule; nothing where there is nothing to compare."""
    found: list[tuple[NDArray[np.uint64], ...]] = []
    if len(case.findings) + len(case.excluded) >= MIN_FINDINGS:
        listed = ("findings", *sorted(map(folded, case.findings)), "", *sorted(map(folded, case.excluded)))
        found.append((_NONE, _NONE, _whole(*listed)))
    for text in filter(None, map(folded, wordings(case))):
        words = text.split()
        short = len(words) < WORDS and len(text) < CHARACTERS
        found.append(
            (word_runs(words, WORDS), character_runs(text, CHARACTERS), _whole("text", text) if short else _NONE)
        )
    return found


def _whole(*parts: str) -> NDArray[np.uint64]:
    return np.array([hash_of(*parts)], dtype=np.uint64)


def _mapped(path: Path) -> NDArray:
    values = np.load(path)
    return np.load(path, mmap_mode="r") if values.nbytes else values
