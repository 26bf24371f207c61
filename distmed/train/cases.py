"""The cases of a plan beside the stream, for what needs more of them than their tokens: a label, subgroups, the words.

A plan flows in, its cases flow out, each with the number by which the stream knows it.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from distmed.cases.case import Case
from distmed.prepare.shards import read_row_group
from distmed.stream.plan import StreamPlan


def numbered_cases(plan: StreamPlan) -> Iterator[tuple[int, Case]]:
    """All cases in order, one row group in memory, but for the row groups that the plan could not read.

    Raises UserError for one that cannot be read any more.
    """
    table = plan.table() if plan.skipped else None
    first = 0
    for manifest in plan.manifests:
        for shard, group, rows in manifest.row_groups:
            if table is None or table.starts(np.array([first]), 0)[0] >= 0:
                yield from enumerate(read_row_group(manifest, shard, group), first)
            first += rows
