"""The index of a source: the id and the label of every case, read once from its shards into a `CaseFile`."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from distmed.errors import UserError
from distmed.prepare.manifest import Manifest
from distmed.stream.pools import pool
from distmed.stream.rows import RowGroups
from distmed.stream.tokens import META, FolderWriter

ROWS_PER_PROCESS = 2_000_000


class _Columns(NamedTuple):
    names: NDArray[np.uint8]
    ends: NDArray[np.int64]
    labels: NDArray[np.int32]


def case_file(manifest: Manifest, cache: Path, *, processes: int = 1, skip: bool = False) -> Path:
    """The folder of a `CaseFile`, made if it is not there. With `skip`, cases of unreadable row groups have no name."""
    folder = cache / f"index-{manifest.hash[:16]}{'-skip' if skip else ''}"
    if (folder / META).is_file():
        return folder
    keys = pa.array(list(manifest.labels), pa.string())
    with pool((keys, skip), min(processes, manifest.rows // ROWS_PER_PROCESS)) as workers, FolderWriter(folder) as out:
        done, end = 0, 0
        if out.marks:
            done, end = out.marks[-1]["groups"], out.marks[-1]["end"]
        out.rewind(out.marks[-1] if out.marks else None)
        if not done:
            out.append("offsets.i8", np.zeros(1, dtype="<i8"))
        tasks = ((manifest, shard, group) for shard, group, _ in manifest.row_groups[done:])
        for columns in workers.map(_read, tasks):
            out.append("names.u1", columns.names)
            out.append("offsets.i8", (end + columns.ends).astype("<i8"))
            out.append("labels.i4", columns.labels.astype("<i4"))
            end += int(columns.ends[-1])
            done += 1
            if out.due:
                out.mark({"groups": done, "end": end})
        out.finish({"cases": manifest.rows})
    return folder


_rows = RowGroups()  # of this process: its shards stay open


def _read(shared: tuple[pa.Array, bool], task: tuple[Manifest, int, int]) -> _Columns:
    keys, skip = shared
    manifest, shard, group = task
    try:
        table = _rows.read(manifest, shard, group, columns=["id", "label"])
    except UserError:
        if not skip:
            raise
        rows = manifest.shards[shard].row_groups[group]
        return _Columns(np.empty(0, "u1"), np.zeros(rows, np.int64), np.full(rows, -1, np.int32))
    names = _bytes(table["id"])
    labels = pc.index_in(table["label"].combine_chunks(), value_set=keys) if len(keys) else None
    return _Columns(
        names=names[0],
        ends=names[1],
        labels=np.full(table.num_rows, -1, np.int32) if labels is None else labels.fill_null(-1).to_numpy(False),
    )


def _bytes(column: Any) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """All strings in a row as bytes, and where each ends."""
    texts = column.combine_chunks().cast(pa.large_binary())
    if texts.null_count:
        texts = texts.fill_null(b"")
    _, offsets, data = texts.buffers()
    ends = np.frombuffer(offsets, dtype="<i8")[texts.offset : texts.offset + len(texts) + 1]
    content = np.frombuffer(data, dtype="u1")[ends[0] : ends[-1]] if data is not None else np.empty(0, "u1")
    return content, ends[1:] - ends[0]
