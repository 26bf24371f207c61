"""Where a checkpoint lies: a local folder or any fsspec or pyarrow filesystem, behind one small set of calls.

A path and perhaps a filesystem flow in; bytes, sizes and names flow out. A local file appears under its name only
when it is wholly on disk; an object store promises the same by itself.
"""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import xxhash
from fsspec import AbstractFileSystem
from fsspec.core import url_to_fs
from fsspec.implementations.local import LocalFileSystem

from distmed.errors import UserError

PARTIAL = ".partial"
READ_BYTES = 8 << 20
RETRY_EVERY_S = 5.0


class StorageError(UserError):
    """Of the place where things are kept: full, read-only or out of reach, whatever is written there."""


def pause_s(limit_s: float) -> float:
    """Between two tries of a place that fails, where it is tried again for `limit_s`."""
    return min(RETRY_EVERY_S, limit_s / 4)


@dataclass(frozen=True)
class Storage:
    """One path on one filesystem."""

    filesystem: AbstractFileSystem
    path: str

    @classmethod
    def at(cls, path: str | Path | Storage, filesystem: Any = None) -> Storage:
        """`path` on `filesystem` (fsspec or pyarrow); without one, a local path or an fsspec URL."""
        if isinstance(path, Storage):
            return path
        if filesystem is None:
            found, inner = url_to_fs(str(path))
            return cls(found, inner)
        if isinstance(filesystem, AbstractFileSystem):
            return cls(filesystem, filesystem._strip_protocol(str(path)))
        if filesystem.type_name == "local":
            return cls(LocalFileSystem(), str(path))
        from fsspec.implementations.arrow import ArrowFSWrapper

        return cls(ArrowFSWrapper(filesystem), str(path))

    def __truediv__(self, name: str) -> Storage:
        return Storage(self.filesystem, f"{self.path.rstrip('/')}/{name}")

    def __str__(self) -> str:
        return self.path if self.is_local else self.filesystem.unstrip_protocol(self.path)

    @property
    def name(self) -> str:
        return self.path.rstrip("/").rsplit("/", 1)[-1]

    @property
    def is_local(self) -> bool:
        return isinstance(self.filesystem, LocalFileSystem)

    def children(self) -> dict[str, dict[str, Any]]:
        """What lies in this folder now, by name: `size` in bytes and `type` (file or directory). Empty if there is
        none."""
        self.filesystem.invalidate_cache()
        try:
            entries = self.filesystem.ls(self.path, detail=True)
        except (FileNotFoundError, NotADirectoryError):
            return {}
        return {Storage(self.filesystem, entry["name"]).name: entry for entry in entries}

    def read(self) -> bytes:
        return bytes(self.filesystem.cat_file(self.path))

    @contextlib.contextmanager
    def writing(self) -> Iterator[IO[bytes]]:
        """A file to write into. On a local disk it is synced and takes its name only when the block ends well."""
        if not self.is_local:
            self.filesystem.makedirs(self.filesystem._parent(self.path), exist_ok=True)
            with self.filesystem.open(self.path, "wb") as file:
                yield file
            return
        target = Path(self.path)
        target.parent.mkdir(parents=True, exist_ok=True)
        partial = target.with_name(target.name + PARTIAL)
        with partial.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        partial.replace(target)
        _sync_folder(target.parent)

    def hash(self) -> str:
        """xxh3_128 of this file."""
        hasher = xxhash.xxh3_128()
        with self.filesystem.open(self.path, "rb") as file:
            while part := file.read(READ_BYTES):
                hasher.update(part)
        return str(hasher.hexdigest())

    def remove(self) -> None:
        """Remove this file or folder; what is not there is no error."""
        with contextlib.suppress(FileNotFoundError):
            self.filesystem.rm(self.path, recursive=True)


def _sync_folder(folder: Path) -> None:
    """A renamed file survives a power cut only when its folder is on disk too."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def is_disk_full(error: OSError) -> bool:
    return error.errno in (errno.ENOSPC, errno.EDQUOT)


def disk_full(where: Storage, what: str) -> StorageError:
    return StorageError(
        f"no space left for {what} in {where}; what was there before is untouched",
        "free some disk, lower checkpoint.keep, or set checkpoint.storage_path to a larger place and copy the checkpoints "
        "there; then --resume",
    )
