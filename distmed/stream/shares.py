"""Which sequences of a global batch each worker takes: evenly many, whatever the world size.

Where sequences are read, or how long they are, flows in; their places in the batch flow out. No worker asks another.
"""

from __future__ import annotations

from itertools import islice

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]


def near_home(lane_S: Floats, width_S: Floats, world_size: int) -> list[list[int]]:
    """The sequences of each worker, such that row groups are read by as few as can be.

    `lane_S`, ascending: where each sequence's lane begins in all that is read, 0 … 1; `width_S`: how much of it the lane is. An
    even part of that is a worker's home, whichever lanes have ended: no lane changes workers because another one has. Only what
    is more than a worker's even share goes to workers with room.
    """
    size = len(lane_S)
    runs = _runs(size, world_size)
    first_S = np.searchsorted(lane_S, lane_S)
    in_lane_S = np.searchsorted(lane_S, lane_S, side="right") - first_S
    place_S = lane_S + width_S * (np.arange(size) - first_S + 0.5) / in_lane_S
    begins_W = np.array([run.start for run in runs]) / size
    home_S = np.searchsorted(begins_W, place_S, side="right") - 1
    shares: list[list[int]] = [[] for _ in range(world_size)]
    over: list[int] = []
    for s, home in enumerate(home_S.tolist()):
        (shares[home] if len(shares[home]) < len(runs[home]) else over).append(s)
    rest = iter(over)
    return [sorted([*share, *islice(rest, len(run) - len(share))]) for run, share in zip(runs, shares, strict=True)]


def by_length(counts_S: Ints, micro_batch: int, world_size: int, passes: int) -> list[list[list[int]]]:
    """The micro-batches of each worker where sequences are not packed: longest first, each pass of all workers a run of that
    order. Rows are padded little, and no worker waits for one with longer rows."""
    runs = _runs(len(counts_S), world_size)
    order = np.argsort(-counts_S, kind="stable").tolist()
    shares: list[list[list[int]]] = [[] for _ in range(world_size)]
    at = 0
    for p in range(passes):
        for rank, run in enumerate(runs):
            size = len(run[micro_batch * p : micro_batch * (p + 1)])
            shares[rank].append(order[at : at + size])
            at += size
    return shares


def _runs(size: int, parts: int) -> list[range]:
    """0 … size-1 cut into even, contiguous runs."""
    return [range(part * size // parts, (part + 1) * size // parts) for part in range(parts)]
