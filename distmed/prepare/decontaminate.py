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
from distmed.prepare.read import Placed
from distmed.prepare.wording import character_runs, folded, hash_of, word_runs, wording

WORDS, CHARACTERS = _LENGTHS = 13, 64
RULES = ("13 words", "64 characters", "whole text")
BOILERPLATE = 10
"""A run in more evaluation cases than these is a phrase of the data set, not a case; nor is a run that is half such."""

MIN_FINDINGS = 8
"""A case of findings alone is compared as a whole; two patients may well share a shorter list."""

_NAMES = "evaluation.json"


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

    def overlap(self, case: Case, text: str) -> Overlap | None:
        """The first overlap of a case, whose folded wording is `text`."""
        for rule, hashes_R in enumerate(_runs(case, text)):
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


def build(cases: Iterable[Placed], folder: Path) -> None:
    """Hash the evaluation cases into the folder; the file that `is_built` looks for comes last."""
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    places: list[str] = []
    found: list[list[NDArray[np.uint64]]] = [[] for _ in RULES]
    for placed in cases:
        places.append(placed.place)
        for rule, hashes_R in enumerate(_runs(placed.case, folded(wording(placed.case)))):
            found[rule].append(hashes_R)
    ignored = 0
    for rule, by_case in enumerate(found):
        hashes_H = np.concatenate(by_case)
        cases_H = np.repeat(np.arange(len(by_case), dtype=np.int32), [len(hashes) for hashes in by_case])
        if rule < len(_LENGTHS):
            phrases_P = _phrases(by_case)
            ignored += len(phrases_P)
            kept_H = np.concatenate([~_near(np.isin(hashes, phrases_P), _LENGTHS[rule] // 2) for hashes in by_case])
            hashes_H, cases_H = hashes_H[kept_H], cases_H[kept_H]
        known_K, first_K = np.unique(hashes_H, return_index=True)
        np.save(folder / f"hashes-{rule}.npy", known_K)
        np.save(folder / f"cases-{rule}.npy", cases_H[first_K])
    (folder / _NAMES).write_text(json.dumps({"places": places, "ignored": ignored}), encoding="utf-8")


def is_built(folder: Path) -> bool:
    return (folder / _NAMES).is_file()


def _phrases(by_case: list[NDArray[np.uint64]]) -> NDArray[np.uint64]:
    """The hashes that are in more than BOILERPLATE cases."""
    once_H = np.concatenate([np.unique(hashes) for hashes in by_case])
    known_K, counts_K = np.unique(once_H, return_counts=True)
    return known_K[counts_K > BOILERPLATE]


def _near(marked_R: NDArray[np.bool_], reach: int) -> NDArray[np.bool_]:
    """The runs that begin at most `reach` from one that is marked."""
    if not marked_R.any():
        return marked_R
    before = np.concatenate([[0], np.cumsum(marked_R)])
    at = np.arange(len(marked_R))
    return before[np.minimum(at + reach + 1, len(marked_R))] > before[np.maximum(at - reach, 0)]


def _runs(case: Case, text: str) -> tuple[NDArray[np.uint64], NDArray[np.uint64], NDArray[np.uint64]]:
    words = text.split()
    whole: list[int] = []
    if not text and len(case.findings) + len(case.excluded) >= MIN_FINDINGS:
        whole = [hash_of("findings", *sorted(map(folded, case.findings)), "", *sorted(map(folded, case.excluded)))]
    elif text and len(words) < WORDS and len(text) < CHARACTERS:
        whole = [hash_of("text", text)]
    return word_runs(words, WORDS), character_runs(text, CHARACTERS), np.array(whole, dtype=np.uint64)


def _mapped(path: Path) -> NDArray:
    values = np.load(path)
    return np.load(path, mmap_mode="r") if values.nbytes else values
