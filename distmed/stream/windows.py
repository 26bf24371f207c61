"""A window of a pool: its rows in their order, and which of them share a sequence.

Row groups (or draws) flow in, packed sequences of case numbers flow out, from counts alone: no text is read for it.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from distmed.stream.order import permutation
from distmed.stream.packing import pack, sequences
from distmed.stream.plan import Pool, StreamPlan
from distmed.stream.table import Table

Ints = NDArray[np.int64]


class Windows:
    """The row groups of a pool, numbered from 0. `starts_G`: the first case of each, `rows_G`: how many it has."""

    def __init__(self, plan: StreamPlan, table: Table, pool: Pool) -> None:
        self.plan = plan
        self.table = table
        self.pool = pool
        sizes = [group_rows(plan, s) for s in pool.sources]
        self.rows_G = np.concatenate(sizes)
        self.starts_G = np.concatenate(
            [table.first_S[s] + np.cumsum(rows) - rows for s, rows in zip(pool.sources, sizes, strict=True)]
        )
        # Pools of one mixture must not follow the same random numbers.
        self.key: tuple[object, ...] = () if len(plan.pools) == 1 else ("source", pool.sources[0])

    def rows(self, g: int) -> Ints:
        """Case numbers of one row group."""
        return np.arange(self.starts_G[g], self.starts_G[g] + self.rows_G[g])

    def rows_of(self, entries: Ints) -> Ints:
        """Case numbers of a window: of its row groups, or its draws as they are."""
        if self.plan.sampling == "balanced":
            return np.asarray(entries)
        return np.concatenate([self.rows(g) for g in entries.tolist()])

    def tokens(self, epoch: int) -> Ints:
        """Tokens of each row group."""
        found = np.empty(len(self.rows_G), dtype=np.int64)
        source_G = self.table.source(self.starts_G)
        for s in self.pool.sources:
            of_source = source_G == s
            first_G = self.starts_G[of_source] - self.table.first_S[s]
            offsets = self.table.tokens(s, epoch).offsets
            found[of_source] = offsets[first_G + self.rows_G[of_source]] - offsets[first_G]
        return found

    def sequences(self, rows_N: Ints, epoch: int) -> int:
        """How many sequences these rows give."""
        rows_N = kept(self.plan, self.table, rows_N, epoch)
        if not self.plan.packing:
            return len(rows_N)
        return int(self._bins(rows_N, epoch).max(initial=-1)) + 1

    def packed(self, entries: Ints, epoch: int, v: int) -> tuple[Ints, Ints]:
        """(cases_N, bounds_S1) of window `v`: its sequence s holds cases_N[bounds_S1[s] : bounds_S1[s + 1]]."""
        plan = self.plan
        rows_N = self.rows_of(entries)
        if plan.train and plan.sampling == "natural":
            rows_N = rows_N[permutation(len(rows_N), "rows", plan.seed, *self.key, epoch, v)]
        rows_N = kept(plan, self.table, rows_N, epoch)
        if not plan.packing:
            return rows_N, np.arange(len(rows_N) + 1)
        bin_N = self._bins(rows_N, epoch)
        bins = int(bin_N.max(initial=-1)) + 1
        rank_S = permutation(bins, "sequences", plan.seed, *self.key, epoch, v) if plan.train else None
        place_N, bounds_S1 = sequences(bin_N, rank_S)
        return rows_N[place_N], bounds_S1

    def _bins(self, rows_N: Ints, epoch: int) -> Ints:
        limit = self.plan.seq_len
        return pack(np.minimum(self.table.counts(rows_N, epoch), limit), limit)


def kept(plan: StreamPlan, table: Table, rows_N: Ints, epoch: int) -> Ints:
    """Those that could be read and are not dropped for their length."""
    if plan.skipped:
        rows_N = rows_N[table.starts(rows_N, epoch) >= 0]
    if plan.long_cases == "drop":
        rows_N = rows_N[table.counts(rows_N, epoch) <= plan.seq_len]
    return rows_N


def group_rows(plan: StreamPlan, source: int) -> Ints:
    """Rows of each row group of a source."""
    shards = plan.manifests[source].shards
    return np.concatenate(
        [np.empty(0, dtype=np.int64), *(np.array(shard.row_groups, dtype=np.int64) for shard in shards)]
    )
