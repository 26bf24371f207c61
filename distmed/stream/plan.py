"""StreamPlan: what the stream is a function of, small enough to be sent to every worker.

`build` makes it on the driver; `Stream` reads it. The large things stay in mapped side files, which it names.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from distmed.prepare.manifest import Manifest
from distmed.recipe import Recipe
from distmed.stream.mixture import Mixture
from distmed.stream.table import Table

Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Pool:
    """Sources that share one order, and where each epoch of it is laid out: how many sequences, in which file.

    Without weights all sources are one pool; in a mixture each is its own.
    """

    sources: tuple[int, ...]
    layouts: tuple[Path, ...] = ()
    sequences: tuple[int, ...] = ()

    def within(self, epochs: float) -> int:
        """Sequences of the first `epochs` epochs, the last of them begun."""
        whole, part = int(epochs), epochs % 1
        return sum(self.sequences[:whole]) + (math.ceil(part * self.sequences[whole]) if part else 0)

    def epochs_at(self, j: int) -> float:
        """Epochs done after its first j sequences."""
        for epoch, sequences in enumerate(self.sequences):
            if j < sequences:
                return epoch + j / sequences
            j -= sequences
        return float(len(self.sequences))


@dataclass(frozen=True)
class StreamPlan:
    """`cases`, `tokens` and the long ones, `dropped` or `cut`, are those of one epoch of every source.

    `quotas`: sequences of each pool in a period of the mixture. `counted_tokens_per_s`: speed of the counting pass, whenever
    it was. `skipped`: row groups that could not be read. `identity`: what a position is a function of; a checkpoint keeps it.
    """

    recipe: Recipe
    train: bool
    manifests: list[Manifest]
    labels: list[str]
    case_folders: list[Path]
    token_folders: list[list[Path]]
    pools: list[Pool]
    quotas: list[int]
    identity: dict[str, Any]
    ids_kept: bool
    counted_tokens_per_s: float
    skipped: list[dict[str, Any]]
    total_sequences: int = 0
    cases: int = 0
    tokens: int = 0
    dropped: int = 0
    cut: int = 0
    class_counts_K: Ints = field(default_factory=lambda: np.zeros(0, dtype=np.int64))
    class_weights_K: NDArray[np.float32] = field(default_factory=lambda: np.ones(0, dtype=np.float32))

    @property
    def task(self) -> Literal["classify", "generate"]:
        return self.recipe.task

    @property
    def seq_len(self) -> int:
        return self.recipe.data.seq_len

    @property
    def packing(self) -> bool:
        return self.recipe.data.packing

    @property
    def seed(self) -> int:
        return self.recipe.train.seed

    @property
    def global_batch(self) -> int:
        return self.recipe.train.global_batch

    @property
    def micro_batch(self) -> int:
        return self.recipe.train.micro_batch

    @property
    def sampling(self) -> Literal["natural", "balanced"]:
        """Of training; an evaluation takes every case once."""
        return self.recipe.data.sampling if self.train else "natural"

    @property
    def long_cases(self) -> Literal["refuse", "drop", "cut"]:
        """An evaluation drops nothing: every case is answered."""
        wanted = self.recipe.data.long_cases
        return "cut" if wanted == "drop" and not self.train else wanted

    @cached_property
    def mixture(self) -> Mixture:
        return Mixture(self.quotas, self.seed)

    def sequences_per_epoch(self, epoch: int) -> int:
        """Sequences of an epoch; in a mixture, until it has to end if its sources stop or wrap as the recipe says."""
        if len(self.pools) == 1:
            return self.pools[0].sequences[epoch]
        return self.ends_of(epoch + 1) - self.ends_of(epoch)

    def total_steps(self, step: int = 0, k: int = 0) -> int:
        """Of a run that has made so many steps and sequences: those may have had another global batch, or a short last one."""
        return step + math.ceil(max(0, self.total_sequences - k) / self.global_batch)

    def ends_of(self, epochs: float) -> int:
        """Where so many epochs end: for the first source if sources stop the run, for the last one if they wrap."""
        ends = [self.mixture.end(p, pool.within(epochs)) for p, pool in enumerate(self.pools)]
        return min(ends) if self.recipe.data.on_end == "stop" else max(ends)

    def epochs_at(self, k: int) -> list[float]:
        """Epochs done of every source when sequences 0 … k-1 are."""
        done = self.mixture.before(k).tolist()
        epochs = {s: pool.epochs_at(done[p]) for p, pool in enumerate(self.pools) for s in pool.sources}
        return [epochs[s] for s in range(len(self.manifests))]

    def epoch_at(self, k: int) -> float:
        """Epochs done of the run: those of the first source to end if sources stop it, of the last one if they wrap."""
        epochs = self.epochs_at(k)
        return max(epochs) if self.recipe.data.on_end == "stop" else min(epochs)

    @property
    def fill_rate(self) -> float:
        """Share of the room of the first epoch's sequences that holds tokens."""
        return self.tokens / (sum(pool.sequences[0] for pool in self.pools) * self.seq_len)

    def table(self) -> Table:
        return Table(self.manifests, self.labels, self.case_folders, self.token_folders)
