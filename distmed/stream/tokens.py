"""The side files of a source, mapped, not read: its token ids, and the id and label of every case.

The counting pass writes them once; afterwards neither order nor packing nor a batch touches text. Plain little-endian
arrays in a folder that is there only when it is whole.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray

from distmed.errors import UserError
from distmed.prepare.manifest import Manifest

META = "meta.json"


class TokenFile:
    """Ids of case i: `ids[offsets[i] : offsets[i + 1]]`; those from `starts[i]` on (within the case) are targets."""

    def __init__(self, folder: Path) -> None:
        self.ids = _map(folder / "ids.i4", "<i4")
        self.offsets = _map(folder / "offsets.i8", "<i8")
        self.starts = _map(folder / "starts.i4", "<i4")


class CaseFile:
    """The id of case i: `names[offsets[i] : offsets[i + 1]]`; its label: `labels[i]`-th of the manifest's keys (-1: none)."""

    def __init__(self, folder: Path) -> None:
        self.labels = _map(folder / "labels.i4", "<i4")
        self.names = _map(folder / "names.u1", "u1")
        self.offsets = _map(folder / "offsets.i8", "<i8")


class FolderWriter:
    """Writes arrays, piece by piece, into a folder that appears under its name when all is there. A context manager."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._part = folder.with_name(f".{folder.name}.part")
        self._files: dict[str, BinaryIO] = {}

    def __enter__(self) -> FolderWriter:
        shutil.rmtree(self._part, ignore_errors=True)
        self._part.mkdir(parents=True, mode=0o700)
        return self

    def append(self, name: str, values: NDArray[Any]) -> None:
        try:
            if name not in self._files:
                self._files[name] = (self._part / name).open("wb")
            self._files[name].write(values.tobytes())
        except OSError as error:
            raise _no_room(self.folder.parent, error) from error

    def finish(self, meta: dict[str, Any]) -> None:
        try:
            for file in self._files.values():
                file.close()
            (self._part / META).write_text(json.dumps(meta), encoding="utf-8")
            self._part.rename(self.folder)
        except OSError as error:
            raise _no_room(self.folder.parent, error) from error

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for file in self._files.values():
            file.close()
        shutil.rmtree(self._part, ignore_errors=True)


def case_file(manifest: Manifest, cache: Path) -> Path:
    """The folder of a `CaseFile`, made if it is not there."""
    folder = cache / f"index-{manifest.hash[:16]}"
    if not (folder / META).is_file():
        keys = {key: place for place, key in enumerate(manifest.labels)}
        end = 0
        with FolderWriter(folder) as writer:
            writer.append("offsets.i8", np.zeros(1, dtype="<i8"))
            for shard in manifest.shards:
                with pq.ParquetFile(manifest.folder / shard.path) as file:
                    for group in range(file.num_row_groups):
                        table = file.read_row_group(group, columns=["id", "label"])
                        names = [name.encode() for name in table["id"].to_pylist()]
                        ends = end + np.cumsum([len(name) for name in names], dtype="<i8")
                        end = int(ends[-1])
                        labels = [-1 if label is None else keys[label] for label in table["label"].to_pylist()]
                        writer.append("names.u1", np.frombuffer(b"".join(names), dtype="u1"))
                        writer.append("offsets.i8", ends)
                        writer.append("labels.i4", np.array(labels, dtype="<i4"))
            writer.finish({"cases": manifest.rows})
    return folder


def read_meta(folder: Path) -> dict[str, Any]:
    """What `FolderWriter.finish` was told."""
    values: dict[str, Any] = json.loads((folder / META).read_text(encoding="utf-8"))
    return values


def require_room(cache: Path, needed: float) -> None:
    """Raises UserError if the disk of `cache` cannot take so many more bytes."""
    free = shutil.disk_usage(cache).free
    if needed > free:
        raise UserError(
            f"the token ids need about {needed / 2**30:.1f} GiB, {cache} has {free / 2**30:.1f} GiB free",
            "make room there, or use fewer cases or epochs",
        )


def _no_room(place: Path, error: OSError) -> UserError:
    return UserError(f"cannot write token ids into {place}: {error.strerror}", "make room there, then start again")


def _map(path: Path, dtype: str) -> NDArray[Any]:
    if not path.stat().st_size:
        return np.empty(0, dtype=dtype)
    return np.asarray(np.memmap(path, dtype=dtype, mode="r"))  # a plain array over the map: its slices are cheap


def total(folders: Sequence[Path], what: str) -> float:
    """Sum of a number in the meta data of several folders."""
    return float(sum(read_meta(folder)[what] for folder in folders))
