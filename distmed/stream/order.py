"""The order of an epoch: row groups permuted, then rows inside windows of a few row groups.

Seed and epoch flow in, row numbers flow out, from a counter-based generator: any window of any epoch is found without walking
through the ones before it, and no generator has a state to save.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]

WINDOW_ROWS = 8000
"""Rows are shuffled and packed within whole row groups of about so many rows together."""


def permutation(size: int, *key: object) -> Ints:
    """A random order of 0 … size-1 that is a function of the key alone.

    Philox (Salmon et al. 2011, doi:10.1145/2063384.2063405). The ranks of its raw output are taken, because NumPy promises to
    keep that stream, but not what `Generator.permutation` makes of it.
    """
    digest = hashlib.blake2b("\0".join(map(str, key)).encode(), digest_size=16).digest()
    raw = np.random.Philox(key=np.frombuffer(digest, dtype="<u8")).random_raw(size)
    return np.argsort(raw, kind="stable")


def cut(size: int, parts: int, part: int) -> slice:
    """The given one of `parts` even, contiguous runs of 0 … size-1."""
    return slice(part * size // parts, (part + 1) * size // parts)


@dataclass(frozen=True)
class Order:
    """The rows of `window(w)`, for w below `windows`, in one epoch. `shuffle=False`: as they lie in the data.

    `starts_G` and `rows_G`: first row and number of rows of every row group, over all sources.
    """

    starts_G: Ints
    rows_G: Ints
    seed: int
    epoch: int
    shuffle: bool

    @property
    def windows(self) -> int:
        return min(len(self.rows_G), max(1, round(int(self.rows_G.sum()) / WINDOW_ROWS)))

    @cached_property
    def _groups(self) -> Ints:
        groups = len(self.rows_G)
        return permutation(groups, "groups", self.seed, self.epoch) if self.shuffle else np.arange(groups)

    def window(self, w: int) -> Ints:
        """Row numbers of window `w`."""
        chosen = self._groups[cut(len(self._groups), self.windows, w)]
        rows = np.concatenate([np.arange(self.starts_G[g], self.starts_G[g] + self.rows_G[g]) for g in chosen])
        return rows[permutation(len(rows), "rows", self.seed, self.epoch, w)] if self.shuffle else rows
