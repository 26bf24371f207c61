"""Packing: which cases of a window share a sequence, from their token counts alone.

Best fit decreasing: the longest case first, each into the sequence with the least room that still holds it. At most 11/9 of the
fewest sequences possible (Johnson 1973); on cases much shorter than a sequence nearly all room is used.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]


def pack(counts_N: Ints, capacity: int) -> Ints:
    """The sequence (0, 1, …) of each case. Every count must be at most `capacity`."""
    open_bins: list[list[int]] = [[] for _ in range(capacity + 1)]
    rooms = 0  # bit r is set while some sequence has room r: the least room >= size is one shift and one bit trick away
    bins = 0
    places, times = [], []
    sizes, cases = np.unique(counts_N, return_counts=True)
    for size, waiting in zip(sizes[::-1].tolist(), cases[::-1].tolist(), strict=True):
        while waiting:
            fitting = rooms >> size
            if fitting:
                room = size + (fitting & -fitting).bit_length() - 1
                place = open_bins[room].pop()
                if not open_bins[room]:
                    rooms ^= 1 << room
            else:
                room, place, bins = capacity, bins, bins + 1
            # What it leaves is less room than any other that fits: the next of this size go there too, as long as they fit.
            taken = min(waiting, room // size) if size else waiting
            left = room - taken * size
            if left:
                if not open_bins[left]:
                    rooms |= 1 << left
                open_bins[left].append(place)
            places.append(place)
            times.append(taken)
            waiting -= taken
    bin_N = np.empty(len(counts_N), dtype=np.int64)
    bin_N[np.argsort(-counts_N, kind="stable")] = np.repeat(np.array(places, dtype=np.int64), times)
    return bin_N


def sequences(bin_N: Ints, rank_S: Ints | None = None) -> tuple[Ints, Ints]:
    """(cases_N, bounds_S1): sequence s holds cases_N[bounds_S1[s] : bounds_S1[s + 1]].

    `rank_S`: the place that each sequence gets, so that full and short ones mix.
    """
    bins = int(bin_N.max()) + 1 if len(bin_N) else 0
    place_N = bin_N if rank_S is None else rank_S[bin_N]
    bounds = np.zeros(bins + 1, dtype=np.int64)
    np.cumsum(np.bincount(place_N, minlength=bins), out=bounds[1:])
    return np.argsort(place_N, kind="stable"), bounds
