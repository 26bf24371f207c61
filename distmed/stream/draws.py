"""The draw list of class-balanced sampling: as many draws as the epoch has cases, the same share for each class.

Labels flow in, case positions flow out. Shares and the turn of each case follow in closed form from the epoch, so the
list is as reproducible as the natural order, and a class's cases take turns across epochs too.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from distmed.stream.order import permutation

Ints = NDArray[np.int64]


def draw_list(label_N: Ints, seed: int, epoch: int) -> Ints:
    """Positions in `label_N`, N of them, in random order. Classes without a case have no share.

    Class i of K gets (xN + i) // K draws in the first x epochs: whole numbers that differ by at most one between classes
    and, by Hermite's identity, add up to xN.
    """
    size = len(label_N)
    if not size:
        return np.empty(0, dtype=np.int64)
    by_class = np.argsort(label_N, kind="stable")
    classes, starts, counts = np.unique(label_N[by_class], return_index=True, return_counts=True)
    place = permutation(len(classes), "shares", seed)
    before = (epoch * size + place) // len(classes)
    after = ((epoch + 1) * size + place) // len(classes)
    draws = [
        members[_turns(len(members), first, last, seed, int(label))]
        for label, members, first, last in zip(
            classes,
            (by_class[start : start + count] for start, count in zip(starts, counts, strict=True)),
            before.tolist(),
            after.tolist(),
            strict=True,
        )
    ]
    listed = np.concatenate(draws)
    return listed[permutation(size, "draws", seed, epoch)]


def _turns(members: int, first: int, last: int, seed: int, label: int) -> Ints:
    """Draws first … last-1 of an endless sequence of rounds, each a permutation of the class's cases."""
    rounds = range(first // members, -(-last // members))
    if not rounds:
        return np.empty(0, dtype=np.int64)
    endless = np.concatenate([permutation(members, "turns", seed, label, number) for number in rounds])
    offset = rounds[0] * members
    return endless[first - offset : last - offset]
