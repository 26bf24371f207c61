"""Groups (patients, papers) that are in training and in evaluation: what is measured on them is no evidence.

Two plans flow in, a line for a person flows out. The column of groups alone is read.
"""

from __future__ import annotations

from collections.abc import Iterator

import pyarrow as pa
import pyarrow.compute as pc

from distmed.errors import UserError
from distmed.stream.plan import StreamPlan
from distmed.stream.rows import RowGroups


def overlap(train: StreamPlan, evaluation: StreamPlan) -> str | None:
    """What to say of groups that are in both; None where there are none."""
    evaluated = pa.chunked_array(list(_groups(evaluation)), pa.string()).unique()
    both = {group for groups in _groups(train) for group in groups.filter(pc.is_in(groups, evaluated)).to_pylist()}
    if not both:
        return None
    return (
        f"{len(both)} of {len(evaluated)} groups (patients, papers) of data.eval are in data.train, too: "
        "what is measured on them is no evidence"
    )


def _groups(plan: StreamPlan) -> Iterator[pa.Array]:
    """The groups of each row group, each once."""
    rows = RowGroups()
    for manifest in plan.manifests:
        for shard, number, _ in manifest.row_groups:
            try:
                table = rows.read(manifest, shard, number, columns=["group"])
            except UserError:
                if plan.recipe.data.on_error != "skip":
                    raise
                continue
            yield table["group"].combine_chunks().unique()
