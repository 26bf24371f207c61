"""A recipe's source opened as a manifest: a prepared folder as it is, anything else prepared into the cache first.

So there is one path: whatever the source, what trains reads shards.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, Literal

from distmed import __version__
from distmed.cases.files import file_system, local, local_files
from distmed.cases.read import CaseReader
from distmed.errors import UserError
from distmed.prepare.manifest import MANIFEST, Manifest, bytes_hash
from distmed.prepare.shards import write_shards
from distmed.recipe import Source

_STAMPS = ("ETag", "etag", "mtime", "LastModified", "last_modified", "created")  # as the stores behind fsspec call it


def open_source(source: Source, cache: Path) -> Manifest:
    """The manifest of the source; a raw source is written below `cache` once, under a hash of what it is.

    Raises UserError for a source that cannot be read or has no case, and for a prepared folder that is not as it was written.
    """
    folder = prepared_folder(source.source)
    if folder is not None:
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
    folder = prepared_folder(source.source)
    if folder is not None:
        _refuse_filters(source)
        Manifest.read(folder).verify(checksums=False)
    else:
        next(iter(CaseReader(source, task)))


def prepared_folder(source: str) -> Path | None:
    """The folder that `distmed prepare` finished, if the source is one on this machine."""
    folder = Path(local(source))
    return folder if (folder / MANIFEST).is_file() else None


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


def source_content(source: Source) -> str:
    """SHA-256 of the content of all its files, wherever they lie; empty for a hub id and for what has no file."""
    opens: list[tuple[str, Callable[[], Any]]]
    if "://" in source.source:
        filesystem, path = file_system(source.source)
        opens = [(name, partial(filesystem.open, name, "rb")) for name in _urls(filesystem, path)]
    else:
        opens = [(path.name, partial(path.open, "rb")) for path in _paths(source.source)]
    hashes = []
    for name, opened in opens:
        with opened() as file:
            hashes.append([Path(name).name, bytes_hash(file)])
    return hashlib.sha256(json.dumps(hashes).encode()).hexdigest() if hashes else ""


def _files(source: str) -> list[Any]:
    if "://" in source:
        filesystem, path = file_system(source)
        try:
            facts = [filesystem.info(name) for name in _urls(filesystem, path)]
        except Exception as error:  # every store behind fsspec has errors of its own
            raise UserError(
                f"cannot read {source}: {type(error).__name__}", "check the address and your access to it"
            ) from error
        return [[f["name"], f["size"], [f.get(stamp) for stamp in _STAMPS]] for f in facts]
    return [[str(p), p.stat().st_size, p.stat().st_mtime_ns] for p in _paths(source)]


def _urls(filesystem: Any, path: str) -> list[str]:
    return sorted(filesystem.find(path) or filesystem.glob(path))


def _paths(source: str) -> list[Path]:
    path = Path(local(source))
    if path.is_file():  # also one whose name holds brackets
        return [path]
    return sorted(Path(name) for name in local_files(str(path)))
