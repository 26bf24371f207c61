"""Groups (patients, papers) that are in training and in evaluation: what is measured on them is no evidence.

Two plans flow in, lines for a person flow out. The column of groups alone is read, once a run.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from distmed.errors import UserError
from distmed.prepare.manifest import Manifest
from distmed.stream.plan import StreamPlan
from distmed.stream.rows import RowGroups
from distmed.stream.store import StoredManifest


def overlap(train: StreamPlan, evaluation: StreamPlan) -> list[str]:
    """What to say of groups that are in both, and of sources in a store, of which it is not known."""
    evaluated = set(_groups(evaluation, evaluation.manifests))
    near = [manifest for manifest in train.manifests if not _far(manifest)]
    both = evaluated.intersection(_groups(train, near))
    lines = [
        f"data.train.{s} lies in a store: its groups (patients, papers) are not compared with those of data.eval"
        for s, manifest in enumerate(train.manifests)
        if _far(manifest)
    ]
    if both:
        lines.append(
            f"{len(both)} of {len(evaluated)} groups (patients, papers) of data.eval are in data.train, too: "
            "unless others have their names, what is measured on them is no evidence"
        )
    return lines


def _far(manifest: Manifest) -> bool:
    """One column of a store takes as long as all of them."""
    return isinstance(manifest, StoredManifest) and not all(
        (manifest.folder / shard.path).is_file() for shard in manifest.shards
    )


def _groups(plan: StreamPlan, manifests: Sequence[Manifest]) -> Iterator[str]:
    rows = RowGroups()
    for manifest in manifests:
        for shard, number, _ in manifest.row_groups:
            try:
                table = rows.read(manifest, shard, number, columns=["group"])
            except UserError:
                if plan.recipe.data.on_error != "skip":
                    raise
                continue
            yield from table["group"].unique().to_pylist()
