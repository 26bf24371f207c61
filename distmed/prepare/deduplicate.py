"""Deduplicate: which cases say the same as an earlier one, to the word or nearly.

Hashes and MinHash signatures of single cases are made where the cases are (in parallel, nothing is remembered); then
arrays over all cases flow in and a mask of duplicates flows out. Memory grows by about 40 bytes a case, the signatures
lie in a file.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import rensa
from numpy.typing import NDArray

from distmed.cases.case import Case
from distmed.prepare.wording import SIGNS, hash_of

BANDS, ROWS = 20, 6
"""Near duplicates of Jaccard similarity s meet in a band with probability 1 - (1 - s^6)^20: 0.998 at 0.8, 0.27 at 0.5."""

SIGNATURE = BANDS * ROWS
SIMILARITY = 0.8
"""Share of equal signature entries, an estimate of the Jaccard similarity of the sets of word triples."""

SHINGLE = 3
MIN_WORDS = 20
"""A shorter text is a duplicate only to the word: one other word in it can be another patient."""

# Numbers, and signs with the word before them.
_RESULTS = re.compile(rf"(?<!\S)(?:\d\S*|(?:\S+ )?[{re.escape(SIGNS)}](?!\S))")
_SEED = 20261123
_CHUNK = 1 << 16


@dataclass(frozen=True)
class Duplicates:
    """Masks over all cases: to the word, and nearly. `clusters`: sets of cases that say the same. `conflicts`: texts that
    stand there with several labels (they are kept)."""

    exact_N: NDArray[np.bool_]
    near_N: NDArray[np.bool_]
    clusters: int
    conflicts: int


def exact_hash(case: Case, text: str) -> int:
    """Equal for cases that say the same under the same label; `text` is the wording, folded with its signs.

    Two patients may well have the same findings: a case of findings alone is a duplicate only under the same id.
    """
    return hash_of(*(_content(case, text)), case.label or "")


def content_hash(case: Case, text: str) -> int:
    """Equal for cases that say the same, whatever the label."""
    return hash_of(*_content(case, text))


def signatures(texts: list[str]) -> list[NDArray[np.uint32] | None]:
    """MinHash signatures of texts folded with their signs (Broder 1997; rensa's R-MinHash); None for one too short.

    They are of the words. Texts of other numbers or signs have nothing in common: "HER2+" is not nearly "HER2-".
    """
    shingles = [_shingles([word for word in text.split() if word not in SIGNS]) for text in texts]
    long = [i for i, items in enumerate(shingles) if items]
    found: list[NDArray[np.uint32] | None] = [None] * len(texts)
    if long:
        matrix = rensa.RMinHash.digest_matrix_from_token_sets([shingles[i] for i in long], SIGNATURE, _SEED)
        for i, row in zip(long, matrix.to_rows(), strict=True):
            results = hash_of(*_RESULTS.findall(texts[i])) & 0xFFFFFFFF
            found[i] = np.array(row, dtype=np.uint32) ^ np.uint32(results)
    return found


def find_duplicates(
    exact_N: NDArray[np.uint64],
    content_N: NDArray[np.uint64],
    labels_N: NDArray[np.int32],
    signed_M: NDArray[np.int64],
    signatures_MS: NDArray[np.uint32],
) -> Duplicates:
    """`signed_M`: the rows (ascending) that have a signature. Near duplicates share the label; the first case is kept."""
    root_N = _first_of_equal(exact_N)
    same_N = root_N != np.arange(len(exact_N))
    kept_K = np.flatnonzero(~same_N[signed_M])
    for band in range(BANDS):
        columns_KR = signatures_MS[kept_K, band * ROWS : (band + 1) * ROWS]
        for bucket in _buckets(_keys(columns_KR, labels_N[signed_M[kept_K]])):
            for alike in _alike(signatures_MS, kept_K[bucket]):
                _join(root_N, signed_M[alike].tolist())
    root_N = _resolved(root_N)
    moved_N = root_N != np.arange(len(root_N))
    return Duplicates(
        exact_N=same_N,
        near_N=moved_N & ~same_N,
        clusters=len(np.unique(root_N[moved_N])),
        conflicts=_conflicts(content_N, labels_N),
    )


def signature_file(path: Path, rows: int) -> NDArray[np.uint32]:
    """A file of signatures mapped into memory, so that it costs disk, not memory."""
    if not rows:
        return np.empty((0, SIGNATURE), dtype=np.uint32)
    return np.lib.format.open_memmap(path, mode="w+", dtype=np.uint32, shape=(rows, SIGNATURE))


def _content(case: Case, text: str) -> Iterable[str]:
    if text:
        return (case.kind, text)
    who = f"{case.sex} {case.age_years}"
    return (case.kind, case.id, who, "\1".join(sorted(case.findings)), "\1".join(sorted(case.excluded)))


def _shingles(words: list[str]) -> list[str]:
    if len(words) < MIN_WORDS:
        return []
    return list({" ".join(words[i : i + SHINGLE]) for i in range(len(words) - SHINGLE + 1)})


def _first_of_equal(keys_N: NDArray[np.uint64]) -> NDArray[np.int64]:
    """For each row the first row with the same key."""
    _, first, inverse = np.unique(keys_N, return_index=True, return_inverse=True)
    return first[inverse].astype(np.int64)


def _conflicts(content_N: NDArray[np.uint64], labels_N: NDArray[np.int32]) -> int:
    _, first = np.unique(_keys(labels_N[:, None].astype(np.uint32), content_N), return_index=True)
    return int((np.unique(content_N[first], return_counts=True)[1] > 1).sum())


def _keys(columns_KR: NDArray[np.uint32], start_K: NDArray[np.uint64] | NDArray[np.int32]) -> NDArray[np.uint64]:
    """One hash for each row of columns."""
    keys_K = start_K.astype(np.uint64)
    for column_K in columns_KR.T:
        keys_K = (keys_K ^ column_K) * np.uint64(0x9E3779B97F4A7C15)
        keys_K ^= keys_K >> np.uint64(29)
    return keys_K


def _buckets(keys_K: NDArray[np.uint64]) -> Iterator[NDArray[np.int64]]:
    """Rows with the same key, in order, where there are two or more."""
    order_K = np.argsort(keys_K, kind="stable")
    sorted_K = keys_K[order_K]
    edges = np.flatnonzero(np.concatenate([[True], sorted_K[1:] != sorted_K[:-1], [True]]))
    for number in np.flatnonzero(np.diff(edges) > 1):
        yield order_K[edges[number] : edges[number + 1]]


def _alike(signatures_MS: NDArray[np.uint32], bucket: NDArray[np.int64]) -> Iterator[NDArray[np.int64]]:
    """Rows of a bucket that resemble its first, itself included; then the same among those that are left."""
    while len(bucket) > 1:
        leader = signatures_MS[bucket[0]]
        like = np.concatenate(
            [
                (signatures_MS[bucket[at : at + _CHUNK]] == leader).mean(axis=1) >= SIMILARITY
                for at in range(0, len(bucket), _CHUNK)
            ]
        )
        if like.sum() > 1:
            yield bucket[like]
        bucket = bucket[~like]


def _join(root_N: NDArray[np.int64], rows: list[int]) -> None:
    """Put the sets of all these rows under the least of their roots."""
    roots = {_root(root_N, row) for row in rows}
    root_N[list(roots)] = min(roots)


def _root(root_N: NDArray[np.int64], row: int) -> int:
    while root_N[row] != row:
        root_N[row] = root_N[root_N[row]]
        row = int(root_N[row])
    return row


def _resolved(root_N: NDArray[np.int64]) -> NDArray[np.int64]:
    """Every row directly under the first row of its set."""
    while not np.array_equal(up_N := root_N[root_N], root_N):
        root_N = up_N
    return root_N
