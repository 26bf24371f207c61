"""Parts: the cases that passed the stages of single cases, on disk between the two halves of the work.

Tables flow in, one small Parquet file each, put there whole or not at all, so that an interrupted run finds what it had;
their columns and cases flow out again. The folder holds patients, is for its owner only, and goes when all is done.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from distmed.errors import UserError
from distmed.prepare.deduplicate import SIGNATURE, signature_file
from distmed.prepare.shards import SCHEMA

SIDE = {
    "place": pa.string(),
    "day": pa.int32(),
    "exact": pa.uint64(),
    "content": pa.uint64(),
    "group_hash": pa.uint64(),
    "signature": pa.binary(SIGNATURE * 4),
    "overlap": pa.int32(),
    "overlap_rule": pa.int8(),
}
"""What the second half needs to know of a case, beside the case."""

PART_SCHEMA = pa.schema([*SCHEMA, *(pa.field(name, type) for name, type in SIDE.items())])
_STATS = b"distmed"


class Parts:
    """The parts of one run of `prepare` in `folder`, begun for `fingerprint`: those of another are thrown away."""

    def __init__(self, folder: Path, fingerprint: str) -> None:
        self.folder = folder
        self._read_through = folder / "read.json"
        mark = folder / "fingerprint"
        self.fresh = not mark.is_file() or mark.read_text() != fingerprint
        if self.fresh:
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(parents=True, mode=0o700)
            mark.write_text(fingerprint)

    def path(self, number: int) -> Path:
        return self.folder / f"part-{number:06d}.parquet"

    def finish_reading(self, facts: dict[str, Any]) -> None:
        """All parts are there; `facts` says how many (`parts`) and what the reader counted."""
        self._read_through.write_text(json.dumps(facts, sort_keys=True))

    def reading(self) -> dict[str, Any] | None:
        """What `finish_reading` kept; None if sources have to be read."""
        return json.loads(self._read_through.read_text()) if self._read_through.is_file() else None

    def numbers(self) -> range:
        facts = self.reading()
        return range(facts["parts"] if facts else 0)

    def stats(self, number: int) -> dict[str, Any]:
        """What the stages counted while they made the part."""
        return json.loads(pq.read_schema(self.path(number)).metadata[_STATS])

    def column(self, name: str) -> pa.ChunkedArray:
        """One column over all parts."""
        empty = PART_SCHEMA.empty_table().select([name])
        tables = [pq.read_table(self.path(number), columns=[name]) for number in self.numbers()]
        return pa.concat_tables([empty, *(table.replace_schema_metadata() for table in tables)]).column(0)

    def array(self, name: str) -> NDArray[Any]:
        """A column of numbers; -1 where there is none."""
        column = self.column(name)
        return (column.fill_null(-1) if column.null_count else column).to_numpy()

    def labels(self) -> NDArray[np.int32]:
        """A code for each case, in the order of the sorted labels; -1 for none."""
        codes = self.column("label").dictionary_encode().unify_dictionaries().combine_chunks()
        names = codes.dictionary.to_pylist()
        rank = {name: i for i, name in enumerate(sorted(names))}
        code_of = np.array([*(rank[name] for name in names), -1], dtype=np.int32)
        return code_of[codes.indices.fill_null(-1).to_numpy()]

    def signatures(self) -> tuple[NDArray[np.int64], NDArray[np.uint32]]:
        """The rows that have a signature, and their signatures, mapped from a file."""
        signed: list[NDArray[np.int64]] = []
        before = 0
        for number in self.numbers():
            valid = pq.read_table(self.path(number), columns=["signature"]).column(0).is_valid().to_numpy()
            signed.append(before + np.flatnonzero(valid))
            before += len(valid)
        rows_M = np.concatenate([np.empty(0, dtype=np.int64), *signed])
        signatures_MS = signature_file(self.folder / "signatures.npy", len(rows_M))
        done = 0
        for number, rows in zip(self.numbers(), signed, strict=True):
            column = pq.read_table(self.path(number), columns=["signature"]).column(0).drop_null()
            packed = b"".join(value.as_py() for value in column)
            signatures_MS[done : done + len(rows)] = np.frombuffer(packed, dtype=np.uint32).reshape(-1, SIGNATURE)
            done += len(rows)
        return rows_M, signatures_MS

    def rows(self, keep_N: NDArray[np.bool_]) -> Iterator[tuple[int, dict[str, Any]]]:
        """Number and row of every case that is kept, one part in memory."""
        before = 0
        for number in self.numbers():
            count = pq.read_metadata(self.path(number)).num_rows
            keep = np.flatnonzero(keep_N[before : before + count])
            if len(keep):
                table = pq.read_table(self.path(number), columns=SCHEMA.names).take(keep)
                yield from zip((before + keep).tolist(), table.to_pylist(), strict=True)
            before += count

    def clear(self) -> None:
        shutil.rmtree(self.folder)


def write_part(path: Path, rows: Sequence[dict[str, Any]], stats: dict[str, Any]) -> None:
    """Put a part there at once and whole. Raises UserError if the disk is full."""
    schema = PART_SCHEMA.with_metadata({_STATS: json.dumps(stats, sort_keys=True).encode()})
    part = path.with_suffix(f".{os.getpid()}")
    try:
        part.touch(0o600)
        with part.open("wb") as file:
            pq.write_table(pa.Table.from_pylist(list(rows), schema), file, compression="zstd")
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    except OSError as error:
        part.unlink(missing_ok=True)
        raise UserError(
            f"cannot write into {path.parent}: {error.strerror}", "make room there; the same command then continues"
        ) from error
