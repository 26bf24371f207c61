"""Row groups as tables, from a disk or a store: shards stay open, so that a footer is read once.

A manifest, a shard and a row group flow in, an Arrow table flows out; what cannot be read becomes a `UserError` that names it.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from distmed.errors import UserError
from distmed.prepare.manifest import Manifest
from distmed.stream.store import StoredManifest, patiently

OPEN_SHARDS = 32
"""A parsed footer takes about a megabyte."""

READ_AHEAD = 4 * 2**20
"""Bytes fetched from a store at once: a row group's columns lie side by side."""


class RowGroups:
    """Reads row groups. Not for several threads at once."""

    def __init__(self) -> None:
        self._open: OrderedDict[tuple[object, ...], pq.ParquetFile] = OrderedDict()

    def read(self, manifest: Manifest, shard: int, group: int, columns: Sequence[str] | None = None) -> pa.Table:
        """The rows of one row group, with some columns or all. Raises UserError that names shard and rows."""
        facts = manifest.shards[shard]
        path = manifest.folder / facts.path
        stored = isinstance(manifest, StoredManifest) and not path.is_file()
        place = f"{manifest.url}/{facts.path}" if stored and isinstance(manifest, StoredManifest) else str(path)
        first = sum(facts.row_groups[:group])
        what = f"{place}, row group {group} (rows {first + 1} to {first + facts.row_groups[group]})"

        def attempt() -> pa.Table:
            try:
                table = self._file(place, stored).read_row_group(group, columns=columns)
            except (pa.ArrowException, OSError, EOFError) as error:
                # A store may answer with half a file; a file opened before it failed is of no use any more.
                self._forget(place)
                if stored and not isinstance(error, pa.ArrowException):
                    raise
                raise UserError(
                    f"shard unreadable: {what}: {type(error).__name__}",
                    "restore it from where it came, or prepare the source again; or set data.on_error=skip",
                ) from error
            if table.num_rows != facts.row_groups[group]:
                raise UserError(
                    f"shard changed: {what} holds {table.num_rows} rows", "restore it, or prepare the source again"
                )
            return table

        return patiently(what, attempt) if stored else attempt()

    def _file(self, place: str, stored: bool) -> pq.ParquetFile:
        # A file that was replaced meanwhile is another one.
        stat = None if stored else Path(place).stat()
        key = (place, stat and (stat.st_ino, stat.st_size, stat.st_mtime_ns))
        if key not in self._open:
            while len(self._open) >= OPEN_SHARDS:
                self._open.popitem(last=False)[1].close()
            source = _open_stored(place) if stored else Path(place)
            self._open[key] = pq.ParquetFile(source, page_checksum_verification=True)
        self._open.move_to_end(key)
        return self._open[key]

    def _forget(self, place: str) -> None:
        for key in [key for key in self._open if key[0] == place]:
            self._open.pop(key).close(force=True)


def _open_stored(url: str) -> Any:
    import fsspec

    filesystem, path = fsspec.core.url_to_fs(url)
    return filesystem.open(path, "rb", cache_type="readahead", block_size=READ_AHEAD)
