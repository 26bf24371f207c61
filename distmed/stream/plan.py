"""StreamPlan: what the stream is a function of, small enough to be sent to every worker.

`build` makes it on the driver; `Stream` reads it. The large things stay in mapped side files, which it names.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from distmed.prepare.manifest import Manifest
from distmed.stream.table import Table


@dataclass(frozen=True)
class StreamPlan:
    """`cases`, `tokens` and the long ones, `dropped` or `cut`, are those of the first epoch.

    `window_sequences`: for each epoch, how many sequences each window gives. `counted_tokens_per_s`: speed of the counting
    pass, whenever it was. `identity`: what a position is a function of; a checkpoint keeps it.
    """

    task: Literal["classify", "generate"]
    train: bool
    seq_len: int
    packing: bool
    long_cases: Literal["refuse", "drop", "cut"]
    sampling: Literal["natural", "balanced"]
    seed: int
    global_batch: int
    micro_batch: int
    manifests: list[Manifest]
    labels: list[str]
    case_folders: list[Path]
    token_folders: list[list[Path]]
    class_counts_K: NDArray[np.int64]
    class_weights_K: NDArray[np.float32]
    window_sequences: list[NDArray[np.int64]]
    total_sequences: int
    cases: int
    tokens: int
    dropped: int
    cut: int
    counted_tokens_per_s: float
    identity: dict[str, Any]

    def sequences_per_epoch(self, epoch: int) -> int:
        return int(self.window_sequences[epoch].sum())

    @property
    def fill_rate(self) -> float:
        """Share of the room of the first epoch's sequences that holds tokens."""
        return self.tokens / (self.sequences_per_epoch(0) * self.seq_len)

    def table(self) -> Table:
        return Table(self.manifests, self.labels, self.case_folders, self.token_folders)
