"""The counting pass: every case is tokenised once, in parallel, and kept as ids beside the counts.

Manifests and a tokenizer flow in, folders of `TokenFile`s flow out: one for each source, and for each epoch where
training alters the findings. A folder that is there already is not made again.
"""

from __future__ import annotations

import hashlib
import multiprocessing
import os
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from distmed.prepare.manifest import Manifest
from distmed.prepare.shards import read_row_group
from distmed.stream.encode import Encode
from distmed.stream.tokens import META, FolderWriter, require_room

EPOCHS_AT_ONCE = 16
"""Epochs made from one reading of a row group: bounds memory and open files."""

ROWS_PER_PROCESS = 20_000
"""Below so many rows, a process of its own takes longer to start than to count them."""


@dataclass(frozen=True)
class Block:
    """One row group in one epoch: ids of all its cases in a row, how many each has, and where its targets start."""

    ids: NDArray[np.int32]
    counts: NDArray[np.int64]
    starts: NDArray[np.int32]


def count(
    manifests: Sequence[Manifest], epochs: range, encode: Encode, key: str, cache: Path, *, train: bool, processes: int
) -> list[list[Path]]:
    """Folders of token files: one list for each of `epochs`, in it one folder for each manifest.

    `key`: a hash of tokenizer and prompt. Raises UserError for a damaged shard or a full disk.
    """
    augmented = train and encode.augments
    folders = [
        [cache / f"tokens-{_hash(key, m.hash, e if augmented else 'all')}" for m in manifests]
        for e in (epochs if augmented else epochs[:1])
    ]
    missing = [
        (manifest, [(e, row[m]) for e, row in zip(epochs, folders, strict=False) if not (row[m] / META).is_file()])
        for m, manifest in enumerate(manifests)
    ]
    rows = sum(manifest.rows * len(targets) for manifest, targets in missing)
    if rows:
        with ExitStack() as stack:
            pool = None
            if (workers := min(processes, rows // ROWS_PER_PROCESS)) > 1:
                pool = stack.enter_context(_pool(workers, encode))
            for manifest, targets in missing:
                if targets:
                    manifest.verify(checksums=True)
                for first in range(0, len(targets), EPOCHS_AT_ONCE):
                    _count_one(manifest, targets[first : first + EPOCHS_AT_ONCE], encode, pool, train)
    return folders


def _count_one(
    manifest: Manifest, targets: list[tuple[int, Path]], encode: Encode, pool: ProcessPoolExecutor | None, train: bool
) -> None:
    started = time.perf_counter()
    epochs = [epoch for epoch, _ in targets]
    done, totals = 0, [0] * len(targets)
    with ExitStack() as stack:
        writers = [stack.enter_context(FolderWriter(folder)) for _, folder in targets]
        for writer in writers:
            writer.append("offsets.i8", np.zeros(1, dtype="<i8"))
        for blocks in _blocks(manifest, epochs, encode, pool, train):
            for number, (writer, block) in enumerate(zip(writers, blocks, strict=True)):
                ends = totals[number] + np.cumsum(block.counts)
                totals[number] = int(ends[-1])
                writer.append("ids.i4", block.ids.astype("<i4"))
                writer.append("offsets.i8", ends.astype("<i8"))
                writer.append("starts.i4", block.starts.astype("<i4"))
            if not done:
                written = sum(block.ids.nbytes for block in blocks)
                require_room(targets[0][1].parent, written * manifest.rows / len(blocks[0].counts))
            done += len(blocks[0].counts)
        seconds = (time.perf_counter() - started) / len(targets)
        for writer, tokens in zip(writers, totals, strict=True):
            writer.finish({"cases": done, "tokens": tokens, "seconds": seconds})


def _blocks(
    manifest: Manifest, epochs: list[int], encode: Encode, pool: ProcessPoolExecutor | None, train: bool
) -> Iterator[list[Block]]:
    """For each row group in order, its block in every epoch. A few are under way at a time, so that memory stays bounded."""
    groups = [(shard, group) for shard, group, _ in manifest.row_groups]
    if pool is None:
        for shard, group in groups:
            yield _encode_group(encode, manifest, shard, group, epochs, train)
        return
    ahead = 4 * (os.cpu_count() or 1)
    waiting: list[Any] = []
    for shard, group in groups:
        waiting.append(pool.submit(_in_process, manifest, shard, group, epochs, train))
        if len(waiting) > ahead:
            yield waiting.pop(0).result()
    for future in waiting:
        yield future.result()


def _encode_group(
    encode: Encode, manifest: Manifest, shard: int, group: int, epochs: list[int], train: bool
) -> list[Block]:
    cases = read_row_group(manifest, shard, group)
    blocks = []
    for epoch in epochs:
        examples = encode.batch(cases, epoch, train)
        blocks.append(
            Block(
                ids=np.concatenate([example.input_ids for example in examples]),
                counts=np.array([len(example.input_ids) for example in examples], dtype=np.int64),
                starts=np.array([example.target_start for example in examples], dtype=np.int32),
            )
        )
    return blocks


_encode: Encode  # of this counting process


def _pool(workers: int, encode: Encode) -> ProcessPoolExecutor:
    """Fresh processes: the driver has threads, and a fork of those may hang."""
    return ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"), _start_process, (encode,))


def _start_process(encode: Encode) -> None:
    global _encode
    _encode = encode
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """A driver that is killed cannot tell its processes to end."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _in_process(manifest: Manifest, shard: int, group: int, epochs: list[int], train: bool) -> list[Block]:
    return _encode_group(_encode, manifest, shard, group, epochs, train)


def _hash(*parts: object) -> str:
    return hashlib.sha256("\0".join(map(str, parts)).encode()).hexdigest()[:16]
