"""Split: which case goes into which split, by group or by day, and the check that no group is in two.

Arrays over all cases flow in (groups as hashes, labels as codes, days), an array of split numbers flows out. Nothing
depends on the order of the cases, and no random number is drawn.
"""

from __future__ import annotations

from datetime import date

import numpy as np
from numpy.typing import NDArray

from distmed.errors import UserError


def by_group(
    groups_N: NDArray[np.uint64], labels_N: NDArray[np.int32], shares: tuple[float, ...], seed: int
) -> NDArray[np.int8]:
    """Whole groups dealt to splits, label by label, so that the splits of all cases and of each label come near the shares.

    A group counts for its most frequent label. Each goes where most cases are missing so far, in the order of a hash; but
    the first group of a label goes to the first split, so that no label is asked for that could not be learned.
    """
    groups_G, of_N = np.unique(groups_N, return_inverse=True)
    label_G, rows_G = _main_labels(of_N, labels_N, len(groups_G))
    order_G = np.lexsort((_keyed(groups_G, seed), label_G))
    split_G = np.zeros(len(groups_G), dtype=np.int8)
    seen, before = 0, None
    placed = [0] * len(shares)
    for group, label, rows in zip(order_G.tolist(), label_G[order_G].tolist(), rows_G[order_G].tolist(), strict=True):
        seen += rows
        missing = [share * seen - n for share, n in zip(shares, placed, strict=True)]
        chosen = missing.index(max(missing)) if label == before else 0
        before = label
        placed[chosen] += rows
        split_G[group] = chosen
    return split_G[of_N]


def by_day(days_N: NDArray[np.int32], cuts: tuple[date, ...]) -> NDArray[np.int8]:
    """The split of each case by its day (days since 1970); a cut's own day begins the next split."""
    cuts_C = np.array(cuts, dtype="datetime64[D]").astype(np.int64)
    return np.searchsorted(cuts_C, days_N, side="right").astype(np.int8)


def refuse_shared_groups(groups_N: NDArray[np.uint64], splits_N: NDArray[np.int8], names: tuple[str, ...]) -> None:
    """Raises UserError if a group has cases in two splits."""
    order_N = np.argsort(groups_N, kind="stable")
    groups, splits = groups_N[order_N], splits_N[order_N]
    starts = np.flatnonzero(np.concatenate([[True], groups[1:] != groups[:-1]]))
    shared = np.minimum.reduceat(splits, starts) != np.maximum.reduceat(splits, starts)
    if not shared.any():
        return
    row = int(order_N[starts[shared]].min())
    raise UserError(
        f"{shared.sum()} of {len(starts)} groups are in two splits ({', '.join(names)}); the first has case number {row + 1}",
        "split by group alone (--group-by), choose other days, or take the groups that cross them out",
    )


def _main_labels(
    of_N: NDArray[np.int64], labels_N: NDArray[np.int32], groups: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The most frequent label of each group (of equals the least), and the group's rows."""
    pairs_P, counts_P = np.unique(of_N.astype(np.int64) * (2**31) + (labels_N.astype(np.int64) + 1), return_counts=True)
    group_P, label_P = pairs_P >> 31, (pairs_P & (2**31 - 1)) - 1
    order_P = np.lexsort((label_P, -counts_P, group_P))
    first = np.flatnonzero(np.concatenate([[True], np.diff(group_P[order_P]) != 0]))
    return label_P[order_P][first], np.bincount(of_N, minlength=groups)


def _keyed(groups_G: NDArray[np.uint64], seed: int) -> NDArray[np.uint64]:
    keys_G = (groups_G ^ np.uint64(seed)) * np.uint64(0x9E3779B97F4A7C15)
    return keys_G ^ (keys_G >> np.uint64(31))
