"""A recipe's source opened as a manifest: a prepared folder as it is, anything else prepared into the cache first.

So there is one path: whatever the source, what trains reads shards.
"""

from __future__ import annotations

import glob
import hashlib
import json
from pathlib import Path
from typing import Any, Literal

from distmed import __version__
from distmed.cases.read import CaseReader
from distmed.errors import UserError
from distmed.prepare.manifest import MANIFEST, Manifest
from distmed.prepare.shards import write_shards
from distmed.recipe import Source

_STAMPS = ("ETag", "etag", "mtime", "LastModified", "last_modified", "created")  # as the stores behind fsspec call it


def open_source(source: Source, cache: Path) -> Manifest:
    """The manifest of the source; a raw source is written below `cache` once, under a hash of what it is.

    Raises UserError for a source that cannot be read or has no case, and for a prepared folder that is not as it was written.
    """
    folder = Path(source.source)
    if (folder / MANIFEST).is_file():
        _refuse_filters(source)
    else:
        folder = cache / f"cases-{source_stamp(source)}"
        if not (folder / MANIFEST).is_file():
            reader = CaseReader(source)
            return write_shards(reader, folder, format=source.format, dropped=lambda: reader.dropped)
    manifest = Manifest.read(folder)
    manifest.verify(checksums=False)
    return manifest


def check_source(source: Source, task: Literal["classify", "generate"]) -> None:
    """Raises UserError for a source that cannot be opened or whose first case cannot serve the task; reads no further."""
    folder = Path(source.source)
    if (folder / MANIFEST).is_file():
        _refuse_filters(source)
        Manifest.read(folder).verify(checksums=False)
    else:
        next(iter(CaseReader(source, task)))


def _refuse_filters(source: Source) -> None:
    """A prepared folder is used whole; a filter that did nothing would mislead."""
    for name in ("where", "columns", "groups", "limit"):
        if getattr(source, name):
            raise UserError(
                f"{source.source} is prepared: `{name}` has no effect on it any more",
                f"take `{name}` away, or give it to `distmed prepare`",
            )


def source_stamp(source: Source) -> str:
    """What the source is, and size and time of each of its files; a hub id stands for itself."""
    spec = source.model_dump(mode="json", exclude={"weight"})
    text = json.dumps([__version__, spec, _files(source.source)], sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _files(source: str) -> list[Any]:
    if "://" in source:
        import fsspec

        filesystem, path = fsspec.core.url_to_fs(source)
        facts = [filesystem.info(name) for name in sorted(filesystem.find(path) or filesystem.glob(path))]
        return [[f["name"], f["size"], [f.get(stamp) for stamp in _STAMPS]] for f in facts]
    path = Path(source)
    found = path.rglob("*") if path.is_dir() else map(Path, glob.glob(source, recursive=True))  # noqa: PTH207
    return [[str(p), p.stat().st_size, p.stat().st_mtime_ns] for p in sorted(found) if p.is_file()]
