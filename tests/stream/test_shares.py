from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from distmed.stream.shares import by_length, near_home

WORLDS = [1, 2, 3, 5, 7, 8, 12, 16]


@pytest.mark.parametrize("world_size", WORLDS)
@pytest.mark.parametrize("size", [1, 7, 64, 100])
def test_each_sequence_of_a_batch_has_one_worker_and_all_have_evenly_many(size: int, world_size: int) -> None:
    lane_S = np.sort(np.random.default_rng(size).integers(0, 32, size)) / 32
    shares = near_home(lane_S, np.full(size, 1 / 32), world_size)
    assert sorted(s for share in shares for s in share) == list(range(size))
    assert {len(share) for share in shares} <= {size // world_size, -(-size // world_size)}
    assert all(a < b for share in shares for a, b in pairwise(share))


@pytest.mark.parametrize("world_size", [2, 3, 5, 8, 16])
def test_lanes_that_go_on_keep_their_workers_when_others_end(world_size: int) -> None:
    """A lane that changes workers is read twice. Lane 4 ends, and lanes 0 and 16 give one sequence more in its place."""
    before_S = np.repeat(np.arange(32), 2) / 32
    after_S = np.sort([*np.delete(before_S, [8, 9]), 0, 0.5])
    workers = []
    for lane_S in (before_S, after_S):
        shares = near_home(lane_S, np.full(len(lane_S), 1 / 32), world_size)
        workers.append({(float(lane_S[s]), w) for w, share in enumerate(shares) for s in share})
    assert len(workers[1] - workers[0]) <= 2


def test_one_lane_is_cut_into_even_runs() -> None:
    assert near_home(np.zeros(7), np.ones(7), 3) == [[0, 1], [2, 3], [4, 5, 6]]


def test_sequences_of_like_length_are_computed_at_the_same_time() -> None:
    shares = by_length(np.array([3, 9, 1, 7, 5, 8]), micro_batch=1, world_size=2, passes=3)
    assert shares == [[[1], [3], [0]], [[5], [4], [2]]]
