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
    bin_N = np.empty(len(counts_N), dtype=np.int64)
    open_bins: list[list[int]] = [[] for _ in range(capacity + 1)]
    rooms = 0  # bit r is set while some sequence has room r: the least room >= size is one shift and one bit trick away
    bins = 0
    order = np.argsort(-counts_N, kind="stable")
    for case, size in zip(order.tolist(), counts_N[order].tolist(), strict=True):
        fitting = rooms >> size
        if fitting:
            room = size + (fitting & -fitting).bit_length() - 1
            place = open_bins[room].pop()
            if not open_bins[room]:
                rooms ^= 1 << room
        else:
            room, place, bins = capacity, bins, bins + 1
        left = room - size
        if left:
            if not open_bins[left]:
                rooms |= 1 << left
            open_bins[left].append(place)
        bin_N[case] = place
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
