"""Checkpoint folders under one root: their names, which are complete, which is the newest that is whole, which may go.

A root (a local path, an fsspec URL, or a path on a given filesystem) flows in; names, paths and one-line notes flow
out. Nothing here imports torch, so the driver can ask before any worker runs.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Collection, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from distmed.checkpoint.marker import (
    CorruptCheckpointError,
    Marker,
    data_file,
    marker_file,
    read_markers,
    world_size_of,
)
from distmed.checkpoint.storage import PARTIAL, Storage
from distmed.recipe import Recipe
from distmed.rundir import RunDir

_NAME = re.compile(r"step-(\d+)-world-(\d+)-attempt-(\d+)")


@dataclass(frozen=True, order=True)
class Name:
    """Ordered as checkpoints are: by step, then by attempt."""

    step: int
    attempt: int
    world: int

    def __str__(self) -> str:
        return name(self.step, self.world, self.attempt)


def name(step: int, world: int, attempt: int) -> str:
    """The folder's name. Two attempts never share one, because Ray merges the files of folders of one name."""
    return f"{name_prefix(step)}world-{world}-attempt-{attempt}"


def name_prefix(step: int) -> str:
    """What every checkpoint of this step begins with."""
    return f"step-{step:08d}-"


def parse(text: str) -> Name | None:
    match = _NAME.fullmatch(text)
    return Name(step=int(match[1]), world=int(match[2]), attempt=int(match[3])) if match else None


def names(root: str | Path | Storage, filesystem: Any = None) -> list[Name]:
    """All checkpoint folders under `root`, complete or not, oldest first."""
    return sorted(found for child in Storage.at(root, filesystem).children() if (found := parse(child)))


def next_attempt(root: str | Path, filesystem: Any = None) -> int:
    """One more than the highest attempt that left a folder."""
    return max((found.attempt for found in names(root, filesystem)), default=-1) + 1


def why_incomplete(folder: str | Path | Storage, filesystem: Any = None) -> str | None:
    """What the folder lacks, in a few words; None if every rank's marker is there and every file has its size."""
    where = Storage.at(folder, filesystem)
    children = where.children()
    sizes = {child: entry["size"] for child, entry in children.items()}
    try:
        world_size = world_size_of(list(sizes))
        if world_size is None:
            return "no marker"
        missing = [rank for rank in range(world_size) if marker_file(rank, world_size) not in sizes]
        if missing:
            return f"{len(missing)} of {world_size} markers missing"
        for marker in read_markers(where, world_size):
            size = sizes.get(marker.data_file)
            if size != marker.bytes:
                return f"{marker.data_file} has {size or 0} of {marker.bytes} bytes"
    except CorruptCheckpointError as error:
        return str(error)
    return None


def is_complete(folder: str | Path | Storage, filesystem: Any = None) -> bool:
    return why_incomplete(folder, filesystem) is None


def verify(folder: str | Path | Storage, filesystem: Any = None) -> str | None:
    """Read every byte against its hash; what is wrong, or None. One process reads the whole checkpoint, several files
    at once."""
    where = Storage.at(folder, filesystem)
    wrong = why_incomplete(where)
    if wrong:
        return wrong
    markers = read_markers(where, world_size_of(list(where.children())) or 0)
    with ThreadPoolExecutor(max_workers=8) as pool:
        return next((wrong for wrong in pool.map(lambda marker: verify_rank(where, marker), markers) if wrong), None)


def verify_rank(where: Storage, marker: Marker) -> str | None:
    """As `verify`, for the file of one rank: in a group each rank reads its share."""
    if (where / marker.data_file).hash() != marker.hash:
        return f"{marker.data_file} is damaged: its hash is not the one in its marker"
    return None


def complete_newest_first(
    root: str | Path | Storage, notes: list[str], filesystem: Any = None
) -> Iterator[tuple[Name, Storage]]:
    """Complete folders, newest first; each that is skipped leaves a line in `notes`."""
    where = Storage.at(root, filesystem)
    for found in reversed(names(where)):
        wrong = why_incomplete(where / str(found))
        if wrong:
            notes.append(f"skipped {found}: {wrong}")
        else:
            yield found, where / str(found)


def checkpoint_root(recipe: Recipe, run: RunDir) -> str:
    """Where the checkpoints of a run lie: an absolute local path or an fsspec URL."""
    storage = recipe.checkpoint.storage_path
    if storage is None:
        return str(run.checkpoints)
    if "://" in storage:
        return f"{storage.rstrip('/')}/{recipe.name}"
    return str(Path(storage) / recipe.name)


def newest_complete(root: str | Path, filesystem: Any = None) -> tuple[str | None, list[str]]:
    """Path of the newest complete checkpoint (by markers and sizes) and a note for each newer one that is not."""
    notes: list[str] = []
    for _, folder in complete_newest_first(root, notes, filesystem):
        return str(folder), notes
    return None, notes


def at_step(root: str | Path, step: int, filesystem: Any = None) -> str | None:
    """Path of the newest complete checkpoint of this step, None if there is none."""
    for found, folder in complete_newest_first(root, [], filesystem):
        if found.step == step:
            return str(folder)
    return None


def prune(
    root: str | Path, keep: int, protect: str | Collection[str] | None = None, filesystem: Any = None
) -> list[str]:
    """Remove all but the newest `keep` complete checkpoints and those whose name begins with one of `protect`.

    Newest is what was written last: an attempt that had to begin before damaged checkpoints writes lower steps than theirs.
    Incomplete folders older than the newest complete one go too; newer ones may still be written. Gives the names
    removed.
    """
    where = Storage.at(root, filesystem)
    protected = (protect,) if isinstance(protect, str) else tuple(protect or ())
    everything = sorted(names(where), key=_written)
    complete = [found for found in everything if is_complete(where / str(found))]
    if not complete:
        return []
    kept = set(complete[-keep:])
    gone = [
        str(found)
        for found in everything
        if found not in kept and _written(found) < _written(complete[-1]) and not str(found).startswith(protected)
    ]
    for folder in gone:
        _remove(where / folder)
    return gone


def _written(found: Name) -> tuple[int, int]:
    return found.attempt, found.step


def _remove(folder: Storage) -> None:
    """Markers first, so that a removal cut short leaves a folder that no one takes for whole."""
    for child in folder.children():
        if child.endswith(".json"):
            (folder / child).remove()
    folder.remove()


def clear_rank(folder: Storage, rank: int, world_size: int) -> None:
    """Remove what one rank wrote, whole or partial, and the folder if nothing else is in it."""
    for file in (marker_file(rank, world_size), data_file(rank, world_size)):
        (folder / file).remove()
        (folder / (file + PARTIAL)).remove()
    if folder.is_local:
        with contextlib.suppress(OSError):
            Path(folder.path).rmdir()
