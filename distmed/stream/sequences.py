"""sequence(k): which cases the k-th sequence of a run holds, as a pure function of the plan.

Mixture, turns of the lanes, order, draws and packing meet here. Positions flow in, case numbers flow out; neither workers nor
text play a part.
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from distmed.stream.layout import Layout
from distmed.stream.order import LANES, Turns
from distmed.stream.plan import StreamPlan
from distmed.stream.table import Table
from distmed.stream.windows import Windows

Ints = NDArray[np.int64]


class Sequence(NamedTuple):
    """One sequence, and the lane of how many it is read in; neighbors there share row groups."""

    epoch: int
    lane: int
    lanes: int
    cases_N: Ints


class Sequences:
    """sequence(k) over the epochs of a plan, one after the other."""

    def __init__(self, plan: StreamPlan, table: Table) -> None:
        self.plan = plan
        self._ends = [np.cumsum(pool.sequences) for pool in plan.pools]
        pools = len(plan.pools)
        self._pools = [Windows(plan, table, pool) for pool in plan.pools]
        self._layout = lru_cache(4 * pools)(self._open)
        # Each lane has a window under way, and at the end of an epoch those of the next begin.
        self._window = lru_cache(2 * LANES * pools)(self._packed)

    def at(self, k: int) -> Sequence:
        """The k-th sequence of the run."""
        p, j = self.plan.mixture.at(k) if len(self._pools) > 1 else (0, k)
        epoch = int(np.searchsorted(self._ends[p], j, side="right"))
        if epoch:
            j -= int(self._ends[p][epoch - 1])
        layout, turns = self._layout(p, epoch)
        lane, number = turns.at(j)
        v, s = layout.find(lane, number)
        cases_N, bounds_S1 = self._window(p, epoch, v)
        lanes = len(layout.dealt.lanes_N1) - 1
        return Sequence(epoch, lane, lanes, cases_N[bounds_S1[s] : bounds_S1[s + 1]])

    def between(self, k: int, end: int) -> list[Sequence]:
        """The sequences k … end-1: in training by lane, so that runs of them are read in one place."""
        found = [self.at(each) for each in range(k, end)]
        return sorted(found, key=lambda sequence: sequence.lane / sequence.lanes) if self.plan.train else found

    @property
    def groups_at_once(self) -> int:
        """Row groups that all windows under way hold together, at most."""
        sizes = [
            int(np.diff(dealt.windows_V1).max()) * (len(dealt.lanes_N1) - 1)
            for p in range(len(self._pools))
            for dealt in [self._layout(p, 0)[0].dealt]
        ]
        return sum(sizes)

    def _open(self, p: int, epoch: int) -> tuple[Layout, Turns]:
        layout = Layout(self.plan.pools[p].layouts[epoch])
        return layout, Turns(layout.sizes_N)

    def _packed(self, p: int, epoch: int, v: int) -> tuple[Ints, Ints]:
        dealt = self._layout(p, epoch)[0].dealt
        return self._pools[p].packed(dealt.entries[slice(*dealt.windows_V1[v : v + 2])], epoch, v)
