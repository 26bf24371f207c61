"""The counting pass: every case is tokenised once, in parallel; how many tokens it has is kept, and the ids where they fit.

Manifests and a tokenizer flow in, folders of `TokenFile`s flow out: one for each source, and for each epoch where training
alters the findings. A folder that is there already is not made again, one that was interrupted is gone on with.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from distmed.cases.case import Asked
from distmed.errors import UserError
from distmed.prepare.manifest import Manifest
from distmed.stream.asked import COLUMNS, asked_rows
from distmed.stream.encode import Encode
from distmed.stream.pools import Pool, pool
from distmed.stream.rows import RowGroups
from distmed.stream.tokens import IDS, META, SKIPPED, FolderWriter, read_meta, require_room, room

EPOCHS_AT_ONCE = 16
"""Epochs made from one reading of a row group: bounds memory and open files."""

ROWS_PER_PROCESS = 20_000
"""Below so many rows, a process of its own takes longer to start than to count them."""


@dataclass(frozen=True)
class Counting:
    """How to count: which cache, what it keeps, on how many processes, and what to do about a row group that is broken.

    `key`: a hash of tokenizer and prompt. `skip_rows`: how many rows may be skipped, None for none. `tell` hears of each
    row group: tokens so far, and seconds.
    """

    encode: Encode
    key: str
    cache: Path
    train: bool
    processes: int = 1
    keep: Literal["auto", "ids", "counts"] = "auto"
    skip_rows: int | None = None
    tell: Callable[[int, float], None] = field(default=lambda tokens, seconds: None)

    @property
    def augmented(self) -> bool:
        return self.train and self.encode.augments

    def folder(self, manifest: Manifest, epoch: int) -> Path:
        """Where the counts of a source lie."""
        of = epoch if self.augmented else "all"
        name = f"tokens-{_hash(self.key, manifest.hash, of)}"
        return self.cache / (name if self.skip_rows is None else f"{name}-skip")


class Task(NamedTuple):
    """One row group to count, in some epochs."""

    manifest: Manifest
    shard: int
    group: int
    epochs: tuple[int, ...]
    train: bool
    skip: bool


class Block(NamedTuple):
    """One row group in one epoch: ids of all its cases in a row, how many each has, and where its targets start."""

    ids: NDArray[np.int32]
    counts: NDArray[np.int64]
    starts: NDArray[np.int32]


def count(manifests: Sequence[Manifest], epochs: Sequence[range], how: Counting) -> list[list[Path]]:
    """Folders of token files: a list for each manifest, with one folder for each of its epochs (one in all if they are alike).

    Raises UserError for a damaged shard, more rows to skip than allowed, or a full disk.
    """
    folders = [
        [how.folder(m, epoch) for epoch in (of if how.augmented else of[:1])]
        for m, of in zip(manifests, epochs, strict=True)
    ]
    missing = [
        (m, [(epoch, folder) for epoch, folder in zip(of, row, strict=False) if not _usable(folder, how)])
        for m, of, row in zip(manifests, epochs, folders, strict=True)
    ]
    rows = sum(manifest.rows * len(targets) for manifest, targets in missing)
    if rows:
        with pool(how.encode, min(how.processes, rows // ROWS_PER_PROCESS)) as workers:
            for manifest, targets in missing:
                if targets and how.skip_rows is None:
                    manifest.verify(checksums=True)
                for first in range(0, len(targets), EPOCHS_AT_ONCE):
                    _count_one(manifest, targets[first : first + EPOCHS_AT_ONCE], workers, how)
    _check_budget(folders, how)
    return folders


def _usable(folder: Path, how: Counting) -> bool:
    return (folder / META).is_file() and (how.keep != "ids" or (folder / IDS).is_file())


def _count_one(manifest: Manifest, targets: list[tuple[int, Path]], workers: Pool, how: Counting) -> None:
    """Count one source in a few epochs, from where an interrupted pass stopped."""
    epochs = tuple(epoch for epoch, _ in targets)
    groups = manifest.row_groups
    with ExitStack() as stack:
        writers = [stack.enter_context(FolderWriter(folder)) for _, folder in targets]
        state = _take_up(writers)
        started, done, keep = time.perf_counter(), state["groups"], state["keep"]
        tasks = (Task(manifest, s, g, epochs, how.train, how.skip_rows is not None) for s, g, _ in groups[done:])
        for result in workers.map(count_group, tasks):
            if isinstance(result, str):
                shard, group, rows = groups[done]
                state["skipped"].append({"shard": shard, "group": group, "rows": rows, "why": result})
                blocks = [_unread(rows)] * len(targets)
            else:
                blocks = result
            if keep is None:
                keep = state["keep"] = _what_to_keep(blocks, manifest.rows, how)
            for e, (writer, block) in enumerate(zip(writers, blocks, strict=True)):
                if not done:
                    writer.append("offsets.i8", np.zeros(1, dtype="<i8"))
                ends = state["tokens"][e] + np.cumsum(block.counts)
                state["tokens"][e] = int(ends[-1])
                if keep == "ids":
                    writer.append(IDS, block.ids.astype("<i4"))
                writer.append("offsets.i8", ends.astype("<i8"))
                writer.append("starts.i4", block.starts.astype("<i4"))
            done = state["groups"] = done + 1
            seconds = state["seconds"] + time.perf_counter() - started
            if writers[0].due:
                for writer in writers:
                    writer.mark({**state, "seconds": seconds})
            how.tell(sum(state["tokens"]), seconds)
        seconds = (state["seconds"] + time.perf_counter() - started) / len(targets)
        for writer, tokens in zip(writers, state["tokens"], strict=True):
            writer.finish(
                {"tokens": tokens, "seconds": seconds, "skipped": state["skipped"], "workers": workers.workers}
            )


def _take_up(writers: list[FolderWriter]) -> dict[str, Any]:
    """The newest state that all writers noted, to which they are set back; a fresh one if there is none."""
    common = [mark for mark in writers[0].marks if all(mark in writer.marks for writer in writers[1:])]
    fresh = {"groups": 0, "tokens": [0] * len(writers), "seconds": 0.0, "skipped": [], "keep": None}
    state = common[-1] if common and len(common[-1]["tokens"]) == len(writers) else None
    for writer in writers:
        writer.rewind(state)
    return dict(state or fresh)


def _what_to_keep(blocks: list[Block], rows: int, how: Counting) -> str:
    """`ids` or `counts`: the disk decides where the recipe does not."""
    if how.keep == "counts":
        return "counts"
    needed = sum(block.ids.nbytes for block in blocks) * rows / len(blocks[0].counts)
    if how.keep == "auto" and needed > room(how.cache) / 2:
        return "counts"
    require_room(how.cache, needed)
    return "ids"


_rows = RowGroups()  # of this process: its shards stay open


def count_group(encode: Encode, task: Task) -> list[Block] | str:
    """The blocks of one row group, one an epoch; why it cannot be read, if such are skipped."""
    # What is to be skipped is skipped whole: a group whose labels alone are damaged would be read without them.
    columns = [*COLUMNS, "label"] if task.skip else COLUMNS
    try:
        table = _rows.read(task.manifest, task.shard, task.group, columns=columns)
    except UserError as error:
        if task.skip:
            return error.message
        raise
    cases = asked_rows(table)
    return [_block(encode, cases, epoch, task.train) for epoch in task.epochs]


def _block(encode: Encode, cases: list[Asked], epoch: int, train: bool) -> Block:
    ids_N, size_C, start_C = encode.tokens_and_starts(cases, epoch, train)
    return Block(ids_N, size_C, start_C.astype(np.int32))


def _unread(rows: int) -> Block:
    return Block(np.empty(0, np.int32), np.zeros(rows, np.int64), np.full(rows, SKIPPED, np.int32))


def skipped_groups(folders: Iterable[Path]) -> list[dict[str, Any]]:
    """What the counting pass could not read: shard, row group, rows and why, each once."""
    found = {(entry["why"]): entry for folder in folders for entry in read_meta(folder)["skipped"]}
    return list(found.values())


def _check_budget(folders: list[list[Path]], how: Counting) -> None:
    if how.skip_rows is None:
        return
    skipped = skipped_groups(folder for row in folders for folder in row)
    rows = sum(entry["rows"] for entry in skipped)
    if rows > how.skip_rows:
        raise UserError(
            f"{rows} rows cannot be read, data.skip_budget allows {how.skip_rows}; the first: {skipped[0]['why']}",
            "restore the shards, or raise data.skip_budget",
        )


def _hash(*parts: object) -> str:
    return hashlib.sha256("\0".join(map(str, parts)).encode()).hexdigest()[:16]
