"""sequence(k): which cases the k-th sequence of a run holds, as a pure function of the plan.

Order, draws and packing meet here. Positions flow in, case numbers flow out; neither workers nor text play a part.
"""

from __future__ import annotations

from functools import cached_property, lru_cache
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from distmed.stream.draws import draw_list
from distmed.stream.order import WINDOW_ROWS, Order, cut, permutation
from distmed.stream.packing import pack, sequences
from distmed.stream.plan import StreamPlan
from distmed.stream.table import Table

Ints = NDArray[np.int64]


class Epoch:
    """The windows of one epoch, each a list of sequences."""

    def __init__(self, plan: StreamPlan, table: Table, epoch: int) -> None:
        self.plan = plan
        self.table = table
        self.epoch = epoch
        rows_G = np.array([rows for m in plan.manifests for _, _, rows in m.row_groups], dtype=np.int64)
        self._order = Order(np.cumsum(rows_G) - rows_G, rows_G, plan.seed, epoch, shuffle=plan.train)

    @property
    def windows(self) -> int:
        return max(1, round(len(self._draws) / WINDOW_ROWS)) if self._balanced else self._order.windows

    def window(self, w: int) -> tuple[Ints, Ints]:
        """(cases_N, bounds_S1): sequence s of window `w` holds cases_N[bounds_S1[s] : bounds_S1[s + 1]]."""
        plan = self.plan
        rows_N = (
            self._draws[cut(len(self._draws), self.windows, w)] if self._balanced else self._kept(self._order.window(w))
        )
        if not plan.packing:
            return rows_N, np.arange(len(rows_N) + 1)
        bin_N = pack(np.minimum(self.table.counts(rows_N, self.epoch), plan.seq_len), plan.seq_len)
        bins = int(bin_N.max()) + 1 if len(bin_N) else 0
        rank_S = permutation(bins, "sequences", plan.seed, self.epoch, w) if plan.train else None
        place_N, bounds_S1 = sequences(bin_N, rank_S)
        return rows_N[place_N], bounds_S1

    @property
    def _balanced(self) -> bool:
        return self.plan.train and self.plan.sampling == "balanced"

    @cached_property
    def _draws(self) -> Ints:
        rows_N = self._kept(np.arange(self.table.size))
        return rows_N[draw_list(self.table.labels(rows_N), self.plan.seed, self.epoch)]

    def _kept(self, rows_N: Ints) -> Ints:
        if self.plan.long_cases != "drop":
            return rows_N
        return rows_N[self.table.counts(rows_N, self.epoch) <= self.plan.seq_len]


class Sequences:
    """sequence(k) over the epochs of a plan, one after the other."""

    def __init__(self, plan: StreamPlan, table: Table) -> None:
        self.plan = plan
        self._epoch_ends = np.cumsum([counts.sum() for counts in plan.window_sequences])
        self._window_ends = [np.cumsum(counts) for counts in plan.window_sequences]
        # Neighbours in k lie in the same window; a batch may touch two, of two epochs.
        self._epoch = lru_cache(2)(lambda epoch: Epoch(plan, table, epoch))
        self._window = lru_cache(4)(lambda epoch, w: self._epoch(epoch).window(w))

    def between(self, k: int, end: int) -> list[tuple[int, Ints]]:
        """(epoch, case numbers) of the sequences k … end-1."""
        found: list[tuple[int, Ints]] = []
        while k < end:
            epoch, first = self._locate(self._epoch_ends, k)
            w, offset = self._locate(self._window_ends[epoch], k - first)
            cases_N, bounds_S1 = self._window(epoch, w)
            s = k - first - offset
            taken = min(end - k, len(bounds_S1) - 1 - s)
            bounds = bounds_S1[s : s + taken + 1].tolist()
            found += [(epoch, cases_N[a:b]) for a, b in pairwise(bounds)]
            k += taken
        return found

    def epoch_at(self, k: int) -> float:
        """Epochs done when sequences 0 … k-1 are."""
        if k >= self._epoch_ends[-1]:
            return float(len(self._epoch_ends))
        epoch, first = self._locate(self._epoch_ends, k)
        return epoch + (k - first) / self.plan.sequences_per_epoch(epoch)

    @staticmethod
    def _locate(ends: Ints, k: int) -> tuple[int, int]:
        """The run in which k lies, and the k at which that run starts."""
        run = int(np.searchsorted(ends, k, side="right"))
        return run, int(ends[run - 1]) if run else 0
