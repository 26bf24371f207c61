from __future__ import annotations

import hashlib
from collections import Counter

import numpy as np
import pytest

from distmed.stream.draws import draw_list
from distmed.stream.order import Order, permutation
from distmed.stream.packing import pack, sequences
from distmed.stream.weights import class_weights, log_shares


def test_a_permutation_never_changes_between_versions() -> None:
    """A checkpoint of last year must find its place: if this fails, raise VERSION in stream/build.py."""
    assert permutation(8, "rows", 1, 0, 0).tolist() == [7, 4, 3, 6, 5, 0, 2, 1]
    digest = hashlib.sha256(permutation(100_000, "groups", 7, 3).astype("<i8").tobytes()).hexdigest()
    assert digest[:16] == "0c8a3e3c50c9b740"


def test_an_order_holds_each_row_once_and_mixes_groups() -> None:
    rows_G = np.array([1000, 700, 1000, 5, 1000, 900] * 5)
    order = Order(np.cumsum(rows_G) - rows_G, rows_G, seed=1, epoch=2, shuffle=True)
    windows = [order.window(w) for w in range(order.windows)]
    assert order.windows == 3
    assert np.array_equal(np.sort(np.concatenate(windows)), np.arange(rows_G.sum()))
    group_of_row = np.repeat(np.arange(len(rows_G)), rows_G)
    assert min(len(set(group_of_row[window[:100]])) for window in windows) >= 6


def test_rows_and_groups_lie_in_another_order_each_epoch() -> None:
    def first(groups: int, epoch: int) -> list[int]:
        rows_G = np.full(groups, 4000)
        return Order(np.cumsum(rows_G) - rows_G, rows_G, seed=1, epoch=epoch, shuffle=True).window(0).tolist()

    assert first(1, 0) != first(1, 1)
    assert {row // 4000 for row in first(50, 0)} != {row // 4000 for row in first(50, 1)}


def test_an_order_of_a_billion_rows_is_found_at_once() -> None:
    rows_G = np.full(1_000_000, 1000)
    order = Order(np.arange(1_000_000) * 1000, rows_G, seed=1, epoch=0, shuffle=True)
    assert order.windows == 125_000
    assert len(np.unique(order.window(110_000))) == 8000


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


@pytest.mark.parametrize("kind", ["none", "balanced", "effective"])
def test_class_weights_are_one_on_average_over_the_cases(kind: str) -> None:
    counts_K = np.array([900, 90, 9, 1])
    weight_K = class_weights(counts_K, kind)  # type: ignore[arg-type]
    assert (weight_K * counts_K).sum() / 1000 == pytest.approx(1, rel=1e-6)
    assert kind == "none" or (np.diff(weight_K) > 0).all()


def test_balanced_and_effective_weights_follow_their_formulas() -> None:
    counts_K = np.array([900, 90, 10])
    assert class_weights(counts_K, "balanced") == pytest.approx(1000 / (3 * counts_K), rel=1e-6)
    effective = (1 - 0.999**counts_K) / (1 - 0.999)
    assert class_weights(counts_K, "effective") * effective == pytest.approx(
        np.full(3, 1000 / (counts_K / effective).sum()), rel=1e-6
    )


def test_a_class_without_cases_gives_no_infinity() -> None:
    counts_K = np.array([3, 0, 1])
    for kind in ("none", "balanced", "effective"):
        assert np.isfinite(class_weights(counts_K, kind)).all()
    assert np.isfinite(log_shares(counts_K)).all()


def test_log_shares_are_logarithms_of_shares() -> None:
    assert np.exp(log_shares(np.array([6, 3, 1]))) == pytest.approx([0.6, 0.3, 0.1])
