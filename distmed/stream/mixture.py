"""The mixture: which source gives the k-th sequence, in closed form.

Weights flow in, (source, which of its sequences) flows out. Each period of the run holds every source exactly as often as its
weight says, spread evenly with a random jitter, so that no batch strays far from the shares.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from distmed.stream.order import raw

Ints = NDArray[np.int64]

LONGEST_PERIOD = 10_000
"""Weights that need a longer one are rounded to it."""


def quotas(weights: Sequence[float]) -> list[int]:
    """Sequences of each source in one period, as few as give the weights exactly; none has less than one."""
    parts = [Fraction(str(weight)) for weight in weights]
    shares = [part / sum(parts) for part in parts]
    period = math.lcm(*(share.denominator for share in shares))
    if period <= LONGEST_PERIOD:
        return [int(share * period) for share in shares]
    floors = [max(1, int(share * LONGEST_PERIOD)) for share in shares]
    # Largest remainders first, until the period is full.
    by_rest = sorted(range(len(shares)), key=lambda s: floors[s] - shares[s] * LONGEST_PERIOD)
    for s in by_rest[: max(0, LONGEST_PERIOD - sum(floors))]:
        floors[s] += 1
    return floors


class Mixture:
    """Sequences of several sources by `quotas`, a period after the other."""

    def __init__(self, quotas: Sequence[int], seed: int) -> None:
        self.quotas = np.array(quotas, dtype=np.int64)
        self.period = int(self.quotas.sum())
        self._seed = seed
        self._pattern = lru_cache(4)(self._make)

    def at(self, k: int) -> tuple[int, int]:
        """(source, which of its sequences) of the k-th sequence."""
        period, place = divmod(k, self.period)
        source_P, count_P = self._pattern(period)
        source = int(source_P[place])
        return source, period * int(self.quotas[source]) + int(count_P[place])

    def before(self, k: int) -> Ints:
        """How many of the sequences 0 … k-1 are of each source."""
        period, place = divmod(k, self.period)
        source_P, _ = self._pattern(period)
        return period * self.quotas + np.bincount(source_P[:place], minlength=len(self.quotas))

    def end(self, source: int, number: int) -> int:
        """The k before which exactly so many sequences of the source lie, the last of them just before it."""
        if not number:
            return 0
        period, rest = divmod(number - 1, int(self.quotas[source]))
        source_P, count_P = self._pattern(period)
        return period * self.period + int(np.flatnonzero((source_P == source) & (count_P == rest))[0]) + 1

    def _make(self, period: int) -> tuple[Ints, Ints]:
        source_P = np.repeat(np.arange(len(self.quotas)), self.quotas)
        count_P = np.concatenate([np.arange(quota) for quota in self.quotas])
        jitter_P = raw(self.period, "mixture", self._seed, period) / 2.0**64
        # Each source is spread over the period by itself; the jitter moves a sequence within its stride.
        order = np.argsort((count_P + jitter_P) / self.quotas[source_P], kind="stable")
        return source_P[order], count_P[order]
