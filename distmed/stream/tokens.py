"""The side files of a source, mapped, not read: its token ids, and the id and label of every case.

The counting pass writes them once; afterwards neither order nor packing nor a batch touches text. Plain little-endian
arrays in a folder that is there only when it is whole.
"""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from distmed.errors import UserError

META = "meta.json"
IDS = "ids.i4"

SKIPPED = -1
"""As a start: a row that could not be read."""

MARK_EVERY_S = 2.0
"""An interrupted writer loses at most the work of so long."""

_MARKS = "marks.jsonl"


class TokenFile:
    """Case i has `offsets[i + 1] - offsets[i]` tokens; those from `starts[i]` on (within the case) are targets.

    `ids[offsets[i] : offsets[i + 1]]` are its token ids, where they are kept (else None).
    """

    def __init__(self, folder: Path) -> None:
        self.offsets = _map(folder / "offsets.i8", "<i8")
        self.starts = _map(folder / "starts.i4", "<i4")
        self.ids = _map(folder / IDS, "<i4") if (folder / IDS).exists() else None


class CaseFile:
    """The id of case i: `names[offsets[i] : offsets[i + 1]]`; its label: `labels[i]`-th of the manifest's keys (-1: none)."""

    def __init__(self, folder: Path) -> None:
        self.labels = _map(folder / "labels.i4", "<i4")
        self.names = _map(folder / "names.u1", "u1")
        self.offsets = _map(folder / "offsets.i8", "<i8")


class FolderWriter:
    """Appends arrays to the files of a folder that gets its name when all is there. A context manager.

    What an interrupted writer left is taken up again: `marks` are the places that it noted, each with the state it was told,
    and `rewind` goes back to one of them.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._part = folder.with_name(f".{folder.name}.part")
        self._files: dict[str, BinaryIO] = {}
        self._marked = time.monotonic()
        self.marks: list[dict[str, Any]] = []

    def __enter__(self) -> FolderWriter:
        self._part.mkdir(parents=True, exist_ok=True, mode=0o700)
        self.marks = [mark["state"] for mark in self._read_marks()]
        return self

    def rewind(self, state: dict[str, Any] | None) -> None:
        """Take away what was written after the mark with this state; all of it for None."""
        kept = [mark for mark in self._read_marks() if state is not None]
        while kept and kept[-1]["state"] != state:
            kept.pop()
        sizes = kept[-1]["sizes"] if kept else {}
        for path in self._part.iterdir():
            if path.name in sizes:
                with path.open("r+b") as file:
                    file.truncate(sizes[path.name])
            else:
                path.unlink()
        self.marks = [mark["state"] for mark in kept]
        (self._part / _MARKS).write_text("".join(json.dumps(mark) + "\n" for mark in kept), encoding="utf-8")

    @property
    def due(self) -> bool:
        """Whether the last mark is long enough ago for a new one."""
        return time.monotonic() - self._marked >= MARK_EVERY_S

    def append(self, name: str, values: NDArray[Any]) -> None:
        try:
            if name not in self._files:
                self._files[name] = (self._part / name).open("ab")
            self._files[name].write(values.tobytes())
        except OSError as error:
            raise _no_room(self.folder.parent, error) from error

    def mark(self, state: dict[str, Any]) -> None:
        """A place to go on from, with what its writer needs to know there."""
        self._marked = time.monotonic()
        try:
            for file in self._files.values():
                file.flush()
            sizes = {name: file.tell() for name, file in self._files.items()}
            with (self._part / _MARKS).open("a", encoding="utf-8") as marks:
                marks.write(json.dumps({"state": state, "sizes": sizes}) + "\n")
        except OSError as error:
            raise _no_room(self.folder.parent, error) from error
        self.marks.append(state)

    def finish(self, meta: dict[str, Any]) -> None:
        try:
            for file in self._files.values():
                file.close()
            (self._part / _MARKS).unlink(missing_ok=True)
            (self._part / META).write_text(json.dumps(meta), encoding="utf-8")
            if self.folder.exists():  # counts alone, where ids are wanted now
                shutil.rmtree(self.folder)
            self._part.rename(self.folder)
        except OSError as error:
            raise _no_room(self.folder.parent, error) from error

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for file in self._files.values():
            file.close()
        if not self.marks:
            shutil.rmtree(self._part, ignore_errors=True)

    def _read_marks(self) -> list[dict[str, Any]]:
        """The marks whose files are as long as they say: after a crash of the machine the last ones may not be."""
        marks: list[dict[str, Any]] = []
        if not (self._part / _MARKS).is_file():
            return marks
        for line in (self._part / _MARKS).read_text(encoding="utf-8").splitlines():
            try:
                marks.append(json.loads(line))
            except ValueError:
                break  # the machine stopped within this line
        while marks and not all(_size(self._part / name) >= size for name, size in marks[-1]["sizes"].items()):
            marks.pop()
        return marks


def read_meta(folder: Path) -> dict[str, Any]:
    """What `FolderWriter.finish` was told."""
    values: dict[str, Any] = json.loads((folder / META).read_text(encoding="utf-8"))
    return values


def room(cache: Path) -> int:
    """Bytes that the disk of `cache` can still take."""
    return shutil.disk_usage(cache).free


def require_room(cache: Path, needed: float) -> None:
    """Raises UserError if the disk of `cache` cannot take so many more bytes."""
    free = room(cache)
    if needed > free:
        raise UserError(
            f"the token ids need about {needed / 2**30:.1f} GiB, {cache} has {free / 2**30:.1f} GiB free",
            "make room there, set data.token_cache=counts, or use fewer cases or epochs",
        )


def _no_room(place: Path, error: OSError) -> UserError:
    return UserError(f"cannot write token ids into {place}: {error.strerror}", "make room there, then start again")


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else -1


def _map(path: Path, dtype: str) -> NDArray[Any]:
    if not path.stat().st_size:
        return np.empty(0, dtype=dtype)
    return np.asarray(np.memmap(path, dtype=dtype, mode="r"))  # a plain array over the map: its slices are cheap


def total(folders: Sequence[Path], what: str) -> float:
    """Sum of a number in the meta data of several folders."""
    return float(sum(read_meta(folder)[what] for folder in folders))
