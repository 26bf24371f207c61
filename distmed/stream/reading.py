"""Token ids made on the spot, where the counting pass kept counts only: rows are read and tokenised as their sequences come.

Case numbers flow in, ids flow out. Row groups stay in memory, unpacked, while windows use them.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from distmed.cases.case import Asked
from distmed.errors import UserError
from distmed.stream.asked import COLUMNS, asked_rows
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
        self._tables: OrderedDict[int, list[Asked]] = OrderedDict()
        sizes = [group_rows(plan, s) for s in range(len(plan.manifests))]
        self._starts_G = np.cumsum(np.concatenate(sizes)) - np.concatenate(sizes)
        self._first_group_S = np.cumsum([len(size) for size in sizes]) - [len(size) for size in sizes]
        self._first_group_of_shards = [
            np.cumsum([len(shard.row_groups) for shard in m.shards]) - [len(shard.row_groups) for shard in m.shards]
            for m in plan.manifests
        ]
        self.reads = 0

    def tokens(self, cases_N: Ints, epoch: int) -> tuple[NDArray[np.int32], Ints]:
        """(token ids of all cases in a row, how many each has). Raises UserError if they are not as many as were counted."""
        ids_N, size_C = self._encode.tokens(self._cases(cases_N), epoch, self._plan.train)
        counted_C = self._table.counts(cases_N, epoch)
        if (size_C != counted_C).any():
            c = int(np.argmax(size_C != counted_C))
            (name,) = self._table.names(cases_N[c : c + 1])
            raise UserError(
                f"case {name} has {size_C[c]} tokens, {counted_C[c]} were counted: data or tokenizer changed meanwhile",
                "set them back, or start a new run under another name",
            )
        return ids_N, size_C

    def _cases(self, cases_N: Ints) -> Iterator[Asked]:
        group_N = np.searchsorted(self._starts_G, cases_N, side="right") - 1
        row_N = cases_N - self._starts_G[group_N]
        tables = {group: self._rows_of(group) for group in np.unique(group_N).tolist()}
        return (tables[group][row] for group, row in zip(group_N.tolist(), row_N.tolist(), strict=True))

    def _rows_of(self, group: int) -> list[Asked]:
        if group not in self._tables:
            while len(self._tables) >= self._kept:
                self._tables.popitem(last=False)
            s = int(np.searchsorted(self._first_group_S, group, side="right")) - 1
            local = group - int(self._first_group_S[s])
            shards = self._first_group_of_shards[s]
            shard = int(np.searchsorted(shards, local, side="right")) - 1
            place = (self._plan.manifests[s], shard, local - int(shards[shard]))
            self._tables[group] = asked_rows(self._rows.read(*place, columns=COLUMNS))
            self.reads += 1
        self._tables.move_to_end(group)
        return self._tables[group]
