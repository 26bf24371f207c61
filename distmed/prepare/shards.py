"""Cases to Parquet shards and back.

A stream of cases flows in, files of about 128 MB and a manifest come out; memory holds one row group. The same cases
give the same bytes. The files are for their owner only: they hold patients.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from distmed.cases.case import Case
from distmed.errors import UserError
from distmed.prepare.manifest import MANIFEST, Label, Manifest, Shard, file_hash

ROWS_PER_GROUP = 1000
SHARD_BYTES = 128 * 2**20

_TEXT = pa.string()
SCHEMA = pa.schema(
    {
        "id": _TEXT,
        "kind": _TEXT,
        "group": _TEXT,
        "text": _TEXT,
        "findings": pa.list_(_TEXT),
        "excluded": pa.list_(_TEXT),
        "sex": _TEXT,
        "age_years": pa.float64(),
        "label": _TEXT,
        "label_name": _TEXT,
        "options": pa.list_(_TEXT),
        "messages": pa.list_(pa.struct({"role": _TEXT, "content": _TEXT})),
        "differential": pa.list_(pa.struct({"label": _TEXT, "probability": pa.float64()})),
        "subgroups": pa.list_(pa.struct({"name": _TEXT, "value": _TEXT})),
    }
)


def write_shards(
    cases: Iterable[Case],
    out: Path,
    *,
    format: str,
    dropped: Callable[[], Mapping[str, int]] = dict,
    settings: Mapping[str, Any] | None = None,
    rows_per_group: int = ROWS_PER_GROUP,
    shard_bytes: int = SHARD_BYTES,
) -> Manifest:
    """Write the cases into `out`, the manifest last: without it the folder counts as unfinished and is written anew.

    `dropped` tells, once all cases are through, how many the reader left out by which rule; `settings` are kept in the
    manifest. Raises UserError if there is no case, or no room on the disk.
    """
    out.mkdir(parents=True, exist_ok=True, mode=0o700)
    (out / MANIFEST).unlink(missing_ok=True)
    for left in out.glob("*.parquet"):
        left.unlink()
    labels: Counter[str] = Counter()
    names: dict[str, str] = {}
    source = _counted(iter(cases), labels, names)
    shards: list[Shard] = []
    try:
        while shard := _write_shard(source, out, len(shards), rows_per_group, shard_bytes):
            shards.append(shard)
    except OSError as error:
        raise UserError(
            f"cannot write shards into {out}: {error.strerror}", "make room there, then start again"
        ) from error
    if not shards:
        raise UserError("no case is left to write", "check the source, its format and the `where` filter")
    manifest = Manifest(
        folder=out.resolve(),
        format=format,
        rows=sum(shard.rows for shard in shards),
        labels={key: Label(names[key], labels[key]) for key in sorted(labels)},
        shards=tuple(shards),
        dropped=dict(sorted(dropped().items())),
        settings=dict(settings or {}),
    )
    manifest.write()
    return manifest


def read_cases_of(manifest: Manifest) -> Iterator[Case]:
    """All cases, in order, one row group in memory."""
    for shard, group, _ in manifest.row_groups:
        yield from read_row_group(manifest, shard, group)


def read_row_group(manifest: Manifest, shard: int, group: int) -> list[Case]:
    """The cases of one row group. Raises UserError that names the shard if it cannot be read."""
    path = manifest.folder / manifest.shards[shard].path
    try:
        with pq.ParquetFile(path, page_checksum_verification=True) as file:
            return [Case.from_row(row) for row in file.read_row_group(group).to_pylist()]
    except (OSError, pa.ArrowException) as error:
        raise UserError(
            f"shard unreadable: {path}, row group {group} ({type(error).__name__})",
            "restore it from where it came, or prepare the source again",
        ) from error


def _counted(cases: Iterator[Case], labels: Counter[str], names: dict[str, str]) -> Iterator[Case]:
    for case in cases:
        if case.label is not None:
            labels[case.label] += 1
            names.setdefault(case.label, case.label_name or case.label)
        yield case


def _write_shard(cases: Iterator[Case], out: Path, number: int, rows_per_group: int, shard_bytes: int) -> Shard | None:
    rows = [case.to_row() for case in islice(cases, rows_per_group)]
    if not rows:
        return None
    path = out / f"{number:05d}.parquet"
    groups: list[int] = []
    path.touch(0o600)
    # With a checksum of each page damage is found where it is read, and costs one row group.
    options = {"compression": "zstd", "write_page_checksum": True}
    with path.open("wb") as file, pq.ParquetWriter(file, SCHEMA, **options) as writer:
        while rows:
            writer.write_table(pa.Table.from_pylist(rows, SCHEMA), row_group_size=len(rows))
            groups.append(len(rows))
            if file.tell() >= shard_bytes:
                break
            rows = [case.to_row() for case in islice(cases, rows_per_group)]
    return Shard(path.name, sum(groups), tuple(groups), path.stat().st_size, file_hash(path))
