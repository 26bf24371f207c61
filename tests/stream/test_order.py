from __future__ import annotations

import hashlib
from collections import Counter
from itertools import pairwise

import numpy as np
import pytest

from distmed.stream.draws import draw_list
from distmed.stream.order import LANES, WINDOW_ROWS, Turns, deal, permutation
from distmed.stream.packing import pack, sequences


def test_a_permutation_never_changes_between_versions() -> None:
    """A checkpoint of last year must find its place: if this fails, raise VERSION in stream/build.py."""
    assert permutation(8, "rows", 1, 0, 0).tolist() == [7, 4, 3, 6, 5, 0, 2, 1]
    digest = hashlib.sha256(permutation(100_000, "groups", 7, 3).astype("<i8").tobytes()).hexdigest()
    assert digest[:16] == "0c8a3e3c50c9b740"


def test_lanes_hold_each_row_group_once_and_about_the_same_tokens() -> None:
    chance = np.random.default_rng(0)
    rows_G = chance.integers(700, 1001, 1003)
    tokens_G = rows_G * chance.integers(80, 120, 1003)
    dealt = deal(rows_G, tokens_G, 1, 2)
    assert sorted(dealt.entries.tolist()) == list(range(1003))
    assert len(dealt.lanes_N1) == LANES + 1
    ends = dealt.windows_V1[dealt.lanes_N1]
    load_N = np.array([tokens_G[dealt.entries[a:b]].sum() for a, b in pairwise(ends)])
    assert load_N.max() - load_N.min() <= tokens_G.max()
    rows_V = np.array([rows_G[dealt.entries[a:b]].sum() for a, b in pairwise(dealt.windows_V1)])
    assert rows_V.min() > 0 and rows_V.max() <= 1.5 * WINDOW_ROWS


def test_few_data_have_few_lanes_with_windows_worth_packing() -> None:
    rows_G = np.full(17, 1000)
    dealt = deal(rows_G, rows_G, 1, 0)
    assert len(dealt.lanes_N1) == 5
    assert np.diff(dealt.windows_V1).min() >= 4


def test_row_groups_lie_in_another_order_each_epoch() -> None:
    rows_G = np.full(50, 1000)
    assert deal(rows_G, rows_G, 1, 0).entries.tolist() != deal(rows_G, rows_G, 1, 1).entries.tolist()
    assert deal(rows_G, rows_G, 1, 0).entries.tolist() == deal(rows_G, rows_G, 1, 0).entries.tolist()


def test_lanes_take_turns_until_each_has_ended() -> None:
    sizes_N = np.array([5, 3, 0, 9])
    turns = Turns(sizes_N)
    found = [turns.at(i) for i in range(17)]
    assert sorted(found) == [(lane, n) for lane, size in enumerate(sizes_N) for n in range(size)]
    for lane in range(4):
        assert [n for at, n in found if at == lane] == list(range(sizes_N[lane]))
    assert {lane for lane, _ in found[:3]} == {0, 1, 3}
    assert {lane for lane, _ in found[-4:]} == {3}


def test_a_batch_smaller_than_a_round_spreads_over_all_lanes() -> None:
    turns = Turns(np.full(32, 10))
    for first in range(0, 64, 8):
        lanes = sorted(turns.at(i)[0] // 4 for i in range(first, first + 8))
        assert lanes == list(range(8))


@pytest.mark.parametrize("capacity", [8, 100, 512])
def test_packing_overflows_no_sequence_and_fills_them(capacity: int) -> None:
    counts_N = np.random.default_rng(0).integers(1, capacity // 2, 5000)
    bin_N = pack(counts_N, capacity)
    loads = np.bincount(bin_N, counts_N)
    assert loads.max() <= capacity
    assert loads.min() > 0
    assert len(loads) - 1 <= np.ceil(counts_N.sum() / capacity)


def test_packing_takes_the_least_room_that_fits() -> None:
    assert pack(np.array([6, 5, 4, 3]), 10).tolist() == [0, 1, 0, 1]
    assert pack(np.array([10, 10]), 10).tolist() == [0, 1]
    assert pack(np.array([7, 8, 2, 3]), 10).tolist() == [1, 0, 0, 1]


def test_sequences_list_the_cases_of_each_bin_at_its_rank() -> None:
    cases_N, bounds_S1 = sequences(np.array([0, 1, 0, 2]), np.array([2, 0, 1]))
    assert cases_N.tolist() == [1, 3, 0, 2]
    assert bounds_S1.tolist() == [0, 1, 2, 4]


def test_balanced_draws_give_each_class_the_same_share_and_each_case_its_turn() -> None:
    label_N = np.repeat(np.arange(5), [601, 200, 91, 9, 1])
    np.random.default_rng(0).shuffle(label_N)
    by_case: Counter[int] = Counter()
    for epoch in range(4):
        drawn = draw_list(label_N, seed=1, epoch=epoch)
        assert len(drawn) == 902
        shares = np.bincount(label_N[drawn])
        assert shares.max() - shares.min() <= 1
        by_case.update(drawn.tolist())
        for label in range(5):
            turns = [by_case[case] for case in np.flatnonzero(label_N == label).tolist()]
            assert max(turns) - min(turns) <= 1
    assert not np.array_equal(draw_list(label_N, 1, 0), draw_list(label_N, 1, 1))
    assert np.array_equal(draw_list(label_N, 1, 3), draw_list(label_N, 1, 3))


def test_draws_with_more_classes_than_cases_of_a_class() -> None:
    label_N = np.arange(7)
    for epoch in range(3):
        assert sorted(draw_list(label_N, 1, epoch).tolist()) == list(range(7))
