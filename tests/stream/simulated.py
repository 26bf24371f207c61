"""A source of any size that takes no disk: side files with holes, of which only the touched windows are written.

All row groups are alike (1,000 cases with the same lengths), so that every window of a size packs into equally many sequences.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from distmed.prepare.manifest import Label, Manifest, Shard
from distmed.recipe import Recipe
from distmed.stream.layout import Layout, save
from distmed.stream.order import Turns, deal
from distmed.stream.packing import pack
from distmed.stream.plan import Pool, StreamPlan

ROWS = 1000
GROUPS_PER_SHARD = 125


def simulate(folder: Path, groups: int, recipe: Recipe, identity: dict[str, object]) -> StreamPlan:
    """A plan over `groups` row groups, laid out for one epoch."""
    counts_N = np.random.default_rng(0).integers(20, recipe.data.seq_len // 4, ROWS)
    total = int(counts_N.sum())
    sizes = [GROUPS_PER_SHARD] * (groups // GROUPS_PER_SHARD) + [groups % GROUPS_PER_SHARD] * (
        groups % GROUPS_PER_SHARD > 0
    )
    shards = tuple(Shard(f"{n:05d}.parquet", size * ROWS, (ROWS,) * size, 1, "0") for n, size in enumerate(sizes))
    manifest = Manifest(folder, "columns", groups * ROWS, {"D0": Label("D0", groups * ROWS)}, shards)
    for name, bytes_per_row in {
        "tokens/starts.i4": 4,
        "cases/labels.i4": 4,
        "cases/offsets.i8": 8,
        "cases/names.u1": 1,
    }.items():
        _holes(folder / name, (groups * ROWS + 1) * bytes_per_row)
    _holes(folder / "tokens/offsets.i8", (groups * ROWS + 1) * 8)
    _holes(folder / "tokens/ids.i4", groups * total * 4)
    dealt = deal(np.full(groups, ROWS), np.full(groups, total), recipe.train.seed, 0)
    sizes_V = np.diff(dealt.windows_V1)
    packed = {size: int(pack(np.tile(counts_N, size), recipe.data.seq_len).max()) + 1 for size in set(sizes_V.tolist())}
    layout = folder / "layout.i8"
    sequences = save(layout, dealt, np.array([packed[size] for size in sizes_V.tolist()]))
    (folder / "counts.json").write_text(json.dumps(counts_N.tolist()))
    return StreamPlan(
        recipe=recipe,
        train=True,
        manifests=[manifest],
        labels=["D0"],
        case_folders=[folder / "cases"],
        token_folders=[[folder / "tokens"]],
        pools=[Pool((0,), (layout,), (sequences,))],
        quotas=[1],
        identity=identity,
        ids_kept=True,
        counted_tokens_per_s=0.0,
        skipped=[],
        total_sequences=sequences,
        class_weights_K=np.ones(1, dtype=np.float32),
        class_counts_K=np.ones(1, dtype=np.int64),
    )


def fill(plan: StreamPlan, first: int, sequences: int) -> None:
    """Write the counts of the row groups that these sequences come from."""
    folder = plan.manifests[0].folder
    counts_N = np.array(json.loads((folder / "counts.json").read_text()))
    ends = np.concatenate([[0], np.cumsum(counts_N)])
    layout = Layout(plan.pools[0].layouts[0])
    turns = Turns(layout.sizes_N)
    windows = {layout.find(*turns.at(k))[0] for k in range(first, first + sequences)}
    with (folder / "tokens/offsets.i8").open("r+b") as file:
        for v in sorted(windows):
            for group in layout.dealt.entries[slice(*layout.dealt.windows_V1[v : v + 2])].tolist():
                file.seek(group * ROWS * 8)
                file.write((group * ends[-1] + ends).astype("<i8").tobytes())


def _holes(path: Path, size: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        file.truncate(size)
