"""The layout of an epoch of a pool: which row groups make up each window, and how many sequences each window gives.

Manifest and token counts flow in, a small mapped file flows out, made once (every window is packed for it, in parallel) and
kept. With it any place of any epoch is found at once, however far it lies.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from distmed.errors import UserError
from distmed.stream.draws import draw_list
from distmed.stream.order import Dealt, deal, draws_dealt, in_order
from distmed.stream.plan import Pool, StreamPlan
from distmed.stream.pools import pool as worker_pool
from distmed.stream.table import Table
from distmed.stream.windows import Windows, kept

Ints = NDArray[np.int64]

ROWS_PER_PROCESS = 1_000_000
_HEADER = 3


class Layout:
    """A mapped layout. `ends_V`: sequences of a lane up to the end of each of its windows."""

    def __init__(self, path: Path) -> None:
        content = np.memmap(path, dtype="<i8", mode="r")
        entries, windows, lanes = content[:_HEADER].tolist()
        sizes = (entries, windows + 1, lanes + 1, windows)
        parts = np.split(np.asarray(content[_HEADER:]), np.cumsum(sizes)[:-1])
        self.dealt = Dealt(*parts[:3])
        self.ends_V = parts[3]

    @property
    def sizes_N(self) -> Ints:
        """Sequences of each lane."""
        return self.ends_V[self.dealt.lanes_N1[1:] - 1]

    def find(self, lane: int, number: int) -> tuple[int, int]:
        """(window, sequence in it) of a lane's sequence."""
        first, end = self.dealt.lanes_N1[lane : lane + 2].tolist()
        v = first + int(np.searchsorted(self.ends_V[first:end], number, side="right"))
        return v, number - (int(self.ends_V[v - 1]) if v > first else 0)


@dataclass
class Facts:
    """What an epoch of a pool holds. `mute`: cases without a token to learn from, of which `named` are a few."""

    cases: int = 0
    tokens: int = 0
    long: int = 0
    longest: int = 0
    mute: int = 0
    named: list[int] = field(default_factory=list)
    classes: list[int] = field(default_factory=list)

    def add(self, other: Facts) -> None:
        self.cases += other.cases
        self.tokens += other.tokens
        self.long += other.long
        self.longest = max(self.longest, other.longest)
        self.mute += other.mute
        self.named = [*self.named, *other.named][:5]
        self.classes = other.classes if not self.classes else np.add(self.classes, other.classes).tolist()


class _Task(NamedTuple):
    plan: StreamPlan
    pool: Pool
    epoch: int
    dealt: Dealt  # of the windows below only


def laid_out(plan: StreamPlan, pool: Pool, epoch: int, folder: Path, processes: int) -> tuple[Path, int, Facts]:
    """The layout of one epoch of a pool: its file, its number of sequences, and what it holds; made if it is not there."""
    path, facts_path = folder / f"{epoch:05d}.i8", folder / f"{epoch:05d}.json"
    if not facts_path.is_file():
        folder.mkdir(parents=True, exist_ok=True)
        dealt = _dealt(plan, pool, epoch)
        counts_V, facts = _pack_all(plan, pool, epoch, dealt, processes)
        _check(plan, facts)
        sequences = save(path, dealt, counts_V)
        _write(facts_path, json.dumps({"sequences": sequences, **asdict(facts)}).encode())
    values: dict[str, Any] = json.loads(facts_path.read_text(encoding="utf-8"))
    sequences = values.pop("sequences")
    facts = Facts(**values)
    _check(plan, facts)
    return path, sequences, facts


def save(path: Path, dealt: Dealt, counts_V: Ints) -> int:
    """Write what `Layout` maps, with the number of sequences of each window; how many there are in all."""
    ends_V = np.concatenate([np.cumsum(counts_V[a:b]) for a, b in pairwise(dealt.lanes_N1.tolist())])
    header = np.array([len(dealt.entries), len(counts_V), len(dealt.lanes_N1) - 1])
    _write(path, np.concatenate([header, dealt.entries, dealt.windows_V1, dealt.lanes_N1, ends_V]).astype("<i8"))
    return int(counts_V.sum())


def _dealt(plan: StreamPlan, pool: Pool, epoch: int) -> Dealt:
    table = plan.table()
    windows = Windows(plan, table, pool)
    if plan.sampling == "balanced":
        rows_N = kept(plan, table, np.concatenate([windows.rows(g) for g in range(len(windows.rows_G))]), epoch)
        return draws_dealt(rows_N[draw_list(table.labels(rows_N), plan.seed, epoch)])
    if not plan.train:
        return in_order(windows.rows_G)
    return deal(windows.rows_G, windows.tokens(epoch), plan.seed, *windows.key, epoch)


def _pack_all(plan: StreamPlan, pool: Pool, epoch: int, dealt: Dealt, processes: int) -> tuple[Ints, Facts]:
    windows = len(dealt.windows_V1) - 1
    rows = sum(plan.manifests[s].rows for s in pool.sources)
    with worker_pool(None, min(processes, rows // ROWS_PER_PROCESS)) as pack_pool:
        step = max(1, -(-windows // (8 * pack_pool.workers)))
        results = list(pack_pool.map(_pack_some, _tasks(plan, pool, epoch, dealt, min(step, 512))))
    facts = Facts()
    for _, some in results:
        facts.add(some)
    if plan.sampling == "balanced":
        facts = _facts_of_all(plan, pool, epoch)
    return np.concatenate([counts for counts, _ in results]), facts


def _tasks(plan: StreamPlan, pool: Pool, epoch: int, dealt: Dealt, step: int) -> Iterator[_Task]:
    for first in range(0, len(dealt.windows_V1) - 1, step):
        bounds = dealt.windows_V1[first : first + step + 1]
        part = Dealt(dealt.entries[bounds[0] : bounds[-1]], bounds - bounds[0], np.array([0, len(bounds) - 1]))
        yield _Task(plan, pool, epoch, part)


def _pack_some(_: None, task: _Task) -> tuple[Ints, Facts]:
    table = task.plan.table()
    windows = Windows(task.plan, table, task.pool)
    counts, facts = [], Facts()
    for v in range(len(task.dealt.windows_V1) - 1):
        entries = task.dealt.entries[slice(*task.dealt.windows_V1[v : v + 2])]
        rows_N = windows.rows_of(entries)
        counts.append(windows.sequences(rows_N, task.epoch))
        if task.plan.sampling != "balanced":
            facts.add(_facts(task.plan, table, rows_N, task.epoch))
    return np.array(counts, dtype=np.int64), facts


def _facts_of_all(plan: StreamPlan, pool: Pool, epoch: int) -> Facts:
    table = plan.table()
    windows = Windows(plan, table, pool)
    facts = Facts()
    for g in range(len(windows.rows_G)):
        facts.add(_facts(plan, table, windows.rows(g), epoch))
    return facts


def _facts(plan: StreamPlan, table: Table, rows_N: Ints, epoch: int) -> Facts:
    if plan.skipped:
        rows_N = rows_N[table.starts(rows_N, epoch) >= 0]
    count_N = table.counts(rows_N, epoch)
    long_N = count_N > plan.seq_len
    kept_N = ~long_N if plan.long_cases == "drop" else np.ones_like(long_N)
    fitting_N = np.minimum(count_N, plan.seq_len)
    mute = rows_N[kept_N & (fitting_N <= table.starts(rows_N, epoch))] if plan.task == "generate" else rows_N[:0]
    label_N = table.labels(rows_N[kept_N])
    return Facts(
        cases=int(kept_N.sum()),
        tokens=int(fitting_N[kept_N].sum()),
        long=int(long_N.sum()),
        longest=int(count_N.max(initial=0)),
        mute=len(mute),
        named=mute[:5].tolist(),
        classes=np.bincount(label_N[label_N >= 0], minlength=len(plan.labels)).tolist(),
    )


def _check(plan: StreamPlan, facts: Facts) -> None:
    size = facts.cases + (facts.long if plan.long_cases == "drop" else 0)
    if facts.long and plan.long_cases == "refuse":
        raise UserError(
            f"{facts.long} of {size} cases are longer than data.seq_len={plan.seq_len}, the longest has {facts.longest}",
            "raise data.seq_len, or set data.long_cases to drop or cut",
        )
    if not facts.cases:
        if size:
            raise UserError(f"all {size} cases are longer than data.seq_len={plan.seq_len}", "raise data.seq_len")
        raise UserError("no case could be read", "restore the shards, or prepare the source again")
    if facts.mute:
        names = plan.table().names(np.array(facts.named))
        raise UserError(
            f"{facts.mute} cases have no token to learn from, their answer is empty or cut off: "
            f"{', '.join(names)}{', …' if facts.mute > len(names) else ''}",
            "raise data.seq_len, or take these cases out" + (", or set data.long_cases=drop" if plan.train else ""),
        )


def _write(path: Path, content: bytes | NDArray[Any]) -> None:
    part = path.with_name(f".{path.name}.{os.getpid()}")
    part.write_bytes(content if isinstance(content, bytes) else content.tobytes())
    part.replace(path)
