"""The order of an epoch: row groups permuted and dealt to lanes, cut into windows within which rows are shuffled and packed.

Seed and epoch flow in, places flow out, from a counter-based generator: any window of any epoch is found without walking
through the ones before it, and no generator has a state to save. A lane keeps reads local; it is no worker.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]

WINDOW_ROWS = 4000
"""Rows are shuffled and packed within whole row groups of about so many rows together."""

LANES = 32
"""At most. As many windows are read at the same time, so their number times WINDOW_ROWS bounds what all workers hold."""

STAGGER_FROM = 4
"""Lanes of so many windows change windows one after another, so that reading never comes in bursts."""


def permutation(size: int, *key: object) -> Ints:
    """A random order of 0 … size-1 that is a function of the key alone.

    Philox (Salmon et al. 2011, doi:10.1145/2063384.2063405). The ranks of its raw output are taken, because NumPy promises to
    keep that stream, but not what `Generator.permutation` makes of it.
    """
    return np.argsort(raw(size, *key), kind="stable")


def raw(size: int, *key: object) -> NDArray[np.uint64]:
    """64 random bits for each of 0 … size-1, a function of the key alone."""
    digest = hashlib.blake2b("\0".join(map(str, key)).encode(), digest_size=16).digest()
    return np.random.Philox(key=np.frombuffer(digest, dtype="<u8")).random_raw(size)


@dataclass(frozen=True)
class Dealt:
    """`entries` (row groups, or single draws) lane by lane, window by window.

    Window v holds `entries[windows_V1[v] : windows_V1[v + 1]]`, lane n the windows `lanes_N1[n]` … `lanes_N1[n + 1]` - 1.
    """

    entries: Ints
    windows_V1: Ints
    lanes_N1: Ints


def deal(rows_G: Ints, tokens_G: Ints, *key: object) -> Dealt:
    """Row groups in random order, dealt to lanes that hold about the same number of tokens each.

    There are as many lanes as there are windows for, a power of two; few data have few lanes.
    """
    wanted = min(int(rows_G.sum()) // WINDOW_ROWS, len(rows_G), LANES)
    lanes = 1 << max(wanted, 1).bit_length() - 1
    order = permutation(len(rows_G), "groups", *key)
    rounds = -(-len(order) // lanes)
    dealt_RN = np.full((rounds, lanes), -1, dtype=np.int64)
    load_N = np.zeros(lanes, dtype=np.int64)
    for r in range(rounds):
        chosen = order[r * lanes : (r + 1) * lanes]
        chosen = chosen[np.argsort(-tokens_G[chosen], kind="stable")]
        lightest = np.argsort(load_N, kind="stable")[: len(chosen)]
        dealt_RN[r, lightest] = chosen
        load_N[lightest] += tokens_G[chosen]
    groups_N = [column[column >= 0] for column in dealt_RN.T]
    # Few lanes mean few data, whose windows are worth more for packing than for reading.
    return _windowed(groups_N, rows_G, common=len(order) // lanes if lanes == LANES else rounds)


def in_order(rows_G: Ints) -> Dealt:
    """Row groups as they lie in the data, in one lane."""
    return _windowed([np.arange(len(rows_G))], rows_G, common=len(rows_G))


def draws_dealt(draws: Ints) -> Dealt:
    """A draw list, in one lane: its cases lie anywhere in the data."""
    windows = max(1, round(len(draws) / WINDOW_ROWS))
    bounds = np.array([len(draws) * v // windows for v in range(windows + 1)])
    return Dealt(draws, bounds, np.array([0, windows]))


def _windowed(groups_N: list[Ints], rows_G: Ints, *, common: int) -> Dealt:
    """What a lane has beyond the `common` number of groups is a window of its own: when the other lanes have ended, several
    workers read it."""
    bounds, lanes, at = [0], [0], 0
    for n, groups in enumerate(groups_N):
        shared = groups[:common]
        windows = min(len(shared), max(1, round(int(rows_G[shared].sum()) / WINDOW_ROWS)))
        phase = (n + 0.5) / len(groups_N) if windows >= STAGGER_FROM and len(groups_N) > 1 else 0.0
        ends = {int(len(shared) * (v + phase) / windows) for v in range(windows)} | {len(shared), len(groups)}
        inner = sorted(ends - {0})
        bounds += [at + end for end in inner]
        lanes.append(lanes[-1] + len(inner))
        at += len(groups)
    return Dealt(np.concatenate(groups_N), np.array(bounds), np.array(lanes))


class Turns:
    """Place i of an epoch -> which lane, and which of its sequences.

    Lanes take turns, far ones after each other, so that a batch smaller than a round still spreads evenly over them. A lane
    that has ended is passed over. Closed form: nothing is walked.
    """

    def __init__(self, sizes_N: Ints) -> None:
        bits = max(len(sizes_N) - 1, 1).bit_length()
        spread = sorted(range(len(sizes_N)), key=lambda n: int(f"{n:0{bits}b}"[::-1], 2))
        levels = np.unique(sizes_N[sizes_N > 0])
        # Between two levels the same lanes are alive.
        self._from = np.concatenate([[0], levels[:-1]]).tolist() if len(levels) else []
        self._alive = [[n for n in spread if sizes_N[n] > level] for level in self._from]
        rounds = np.diff(np.concatenate([[0], levels]))
        self._ends = np.cumsum(rounds * np.array([len(alive) for alive in self._alive], dtype=np.int64))

    def at(self, i: int) -> tuple[int, int]:
        level = int(np.searchsorted(self._ends, i, side="right"))
        alive = self._alive[level]
        rounds, turn = divmod(i - (int(self._ends[level - 1]) if level else 0), len(alive))
        return alive[turn], self._from[level] + rounds
