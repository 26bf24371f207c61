"""Token ids made on the spot, where the counting pass kept counts only: rows are read and tokenised as their sequences come.

Case numbers flow in, ids flow out. Row groups stay in memory, unpacked, while windows use them.
"""

from __future__ import annotations

from collections import OrderedDict

import numpy as np
from numpy.typing import NDArray

from distmed.cases.case import Asked
from distmed.errors import UserError
from distmed.stream.asked import COLUMNS, AskedRows
from distmed.stream.encode import Encode
from distmed.stream.plan import StreamPlan
from distmed.stream.rows import RowGroups
from distmed.stream.table import Table
from distmed.stream.windows import group_rows

Ints = NDArray[np.int64]


class IdReader:
    """The ids of any cases of a plan. `reads` counts the row groups read, `kept` is how many are held."""

    def __init__(self, plan: StreamPlan, table: Table, encode: Encode, kept: int) -> None:
        self._plan = plan
        self._table = table
        self._encode = encode
        self._kept = kept
        self._rows = RowGroups()
        self._tables: OrderedDict[int, AskedRows] = OrderedDict()
        sizes = [group_rows(plan, s) for s in range(len(plan.manifests))]
        self._starts_G = np.cumsum(np.concatenate(sizes)) - np.concatenate(sizes)
        self._first_group_S = np.cumsum([len(size) for size in sizes]) - [len(size) for size in sizes]
        self._first_group_of_shards = [
            np.cumsum([len(shard.row_groups) for shard in m.shards]) - [len(shard.row_groups) for shard in m.shards]
            for m in plan.manifests
        ]
        self.reads = 0

    def ids(self, cases_N: Ints, epoch: int) -> list[NDArray[np.int32]]:
        """Token ids of each case, whole. Raises UserError if they are not as many as were counted."""
        cases = self._cases(cases_N)
        found, _ = self._encode.ids(cases, epoch, self._plan.train)
        counted_N = self._table.counts(cases_N, epoch)
        for case, ids, counted in zip(cases, found, counted_N.tolist(), strict=True):
            if len(ids) != counted:
                raise UserError(
                    f"case {case.id} has {len(ids)} tokens, {counted} were counted: data or tokenizer changed meanwhile",
                    "set them back, or start a new run under another name",
                )
        return found

    def _cases(self, cases_N: Ints) -> list[Asked]:
        group_N = np.searchsorted(self._starts_G, cases_N, side="right") - 1
        row_N = cases_N - self._starts_G[group_N]
        # Group by group, so that each is looked up once; then back into the order that was asked for.
        order_N = np.argsort(group_N, kind="stable")
        groups, begins = np.unique(group_N[order_N], return_index=True)
        ends = np.append(begins[1:], len(cases_N))
        sorted_rows = row_N[order_N].tolist()
        in_groups: list[Asked] = []
        for group, begin, end in zip(groups.tolist(), begins.tolist(), ends.tolist(), strict=True):
            in_groups += self._rows_of(group).at(sorted_rows[begin:end])
        place_N = np.empty(len(cases_N), dtype=np.int64)
        place_N[order_N] = np.arange(len(cases_N))
        return [in_groups[place] for place in place_N.tolist()]

    def _rows_of(self, group: int) -> AskedRows:
        if group not in self._tables:
            while len(self._tables) >= self._kept:
                self._tables.popitem(last=False)
            s = int(np.searchsorted(self._first_group_S, group, side="right")) - 1
            local = group - int(self._first_group_S[s])
            shards = self._first_group_of_shards[s]
            shard = int(np.searchsorted(shards, local, side="right")) - 1
            place = (self._plan.manifests[s], shard, local - int(shards[shard]))
            self._tables[group] = AskedRows(self._rows.read(*place, columns=COLUMNS))
            self.reads += 1
        self._tables.move_to_end(group)
        return self._tables[group]
