"""Intervals hold what they promise: on simulated cases whose truth is known, about 95 of 100 contain it."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import norm

from distmed.evaluate.bootstrap import bootstrapped, draws, interval, share
from distmed.evaluate.figure import limits_to_read, proportion
from distmed.evaluate.sample import Sample

SIMULATIONS = 200


def test_a_draw_takes_whole_groups_and_as_many_as_there_are():
    groups = ["a"] * 3 + ["b"] * 2 + ["c"]
    weights_BN = draws(groups, 50)
    assert (weights_BN[:, 0] == weights_BN[:, 2]).all() and (weights_BN[:, 3] == weights_BN[:, 4]).all()
    assert (weights_BN[:, [0, 3, 5]].sum(axis=1) == 3).all()
    assert len({tuple(row) for row in weights_BN.tolist()}) > 5


def test_the_same_seed_gives_the_same_draws():
    groups = [str(n % 7) for n in range(20)]
    assert (draws(groups, 9) == draws(groups, 9)).all()


def test_interval_is_the_2_5_and_97_5_percentile_of_the_defined_draws():
    values_B = np.append(np.arange(101.0), [np.nan] * 9)
    assert interval(values_B) == pytest.approx((2.5, 97.5))


def test_one_group_has_no_interval():
    figure = bootstrapped(0.5, np.full(9, 0.5), 4, 1)
    assert (figure["value"], figure["low"], figure["method"]) == (0.5, None, "no interval: one group")


def test_an_interval_that_draws_moved_away_from_the_value_is_widened_and_says_so():
    figure = bootstrapped(0.2, np.linspace(0.3, 0.7, 41), 40, 20)
    assert (figure["low"], figure["high"]) == (0.2, pytest.approx(0.69))
    assert figure["method"] == "bootstrap by group, 41 draws, widened to hold the value"


def test_wilson_equals_statsmodels_and_scipy():
    from scipy.stats import binomtest

    ours = proportion(9, 12)
    theirs = binomtest(9, 12).proportion_ci(method="wilson")
    assert (ours["low"], ours["high"]) == pytest.approx((theirs.low, theirs.high))
    assert proportion(0, 12)["low"] == 0 and proportion(12, 12)["high"] == 1
    assert proportion(0, 0) == {"value": None, "low": None, "high": None, "n": 0, "method": "", "why": "undefined, n=0"}


def test_of_a_share_over_groups_the_interval_to_read_is_that_of_the_groups():
    right_N, groups = np.array([True] * 12 + [False] * 8), [f"paper {n // 4}" for n in range(20)]
    weights_BN = draws(groups)
    figure, plain = share(right_N, weights_BN, groups), proportion(12, 20)
    assert plain.items() <= figure.items()
    drawn_B = (weights_BN @ right_N) / weights_BN.sum(axis=1)
    assert limits_to_read(figure) == (figure["cluster_low"], figure["cluster_high"]) == pytest.approx(interval(drawn_B))
    assert figure["cluster_high"] - figure["cluster_low"] > 1.5 * (plain["high"] - plain["low"])
    assert figure["cluster_method"] == "bootstrap by group, 1000 draws, only 5 groups"


def test_of_a_share_over_cases_of_their_own_the_interval_to_read_is_wilson():
    groups = [str(n) for n in range(20)]
    figure = share(np.arange(20) < 12, draws(groups), groups)
    assert limits_to_read(figure) == (figure["low"], figure["high"]) and figure["cluster_method"] is None
    assert limits_to_read(proportion(12, 20)) == (figure["low"], figure["high"])


@pytest.mark.parametrize("right", [True, False])
def test_groups_that_are_all_alike_count_as_one_case_each(right):
    groups = [f"paper {n // 4}" for n in range(20)]
    figure, fewer = share(np.full(20, right), draws(groups), groups), proportion(5 * right, 5)
    assert limits_to_read(figure) == (fewer["low"], fewer["high"])


def test_a_share_of_one_group_has_no_interval_to_read():
    figure = share(np.arange(20) < 12, draws(["a"] * 20), ["a"] * 20)
    assert limits_to_read(figure) == (None, None) and figure["cluster_method"] == "no interval: one group"


def coverage(simulate, name: str, truth: float) -> float:
    """Share of simulated studies whose 95 % interval contains the truth."""
    inside = 0
    for seed in range(SIMULATIONS):
        probabilities_NK, gold_N, groups = simulate(np.random.default_rng(seed))
        sample = Sample(probabilities_NK, gold_N)
        low, high = interval(sample.values(draws(groups, 200, seed))[name])
        inside += low <= truth <= high
    return inside / SIMULATIONS


def clustered(random):
    """50 papers of 1 to 5 cases; whether a case is answered rightly depends on its paper: P = 0.7 on average."""
    sizes = random.integers(1, 6, 50)
    right_N = random.random(sizes.sum()) < np.repeat(random.beta(1.4, 0.6, 50), sizes)
    probabilities_N2 = np.where(right_N[:, None], [[0.8, 0.2]], [[0.2, 0.8]])
    return probabilities_N2, np.zeros(len(right_N), int), np.repeat([str(g) for g in range(50)], sizes).tolist()


@pytest.mark.slow
def test_the_interval_of_top1_covers_the_truth_for_cases_in_groups():
    assert 0.90 <= coverage(clustered, "top1", 0.7) <= 0.98


@pytest.mark.slow
def test_drawing_single_cases_instead_of_groups_would_not():
    def alone(random):
        probabilities_NK, gold_N, _ = clustered(random)
        return probabilities_NK, gold_N, [str(n) for n in range(len(gold_N))]

    assert coverage(alone, "top1", 0.7) < 0.90


@pytest.mark.slow
def test_the_interval_of_auroc_covers_the_truth():
    def binormal(random):
        gold_N = random.integers(0, 2, 120)
        score_N = random.normal(size=120) + gold_N
        p_N = 1 / (1 + np.exp(-score_N))
        return np.stack([1 - p_N, p_N], axis=1), gold_N, [str(n) for n in range(120)]

    # Two normal scores one standard deviation apart: P(positive above negative).
    assert 0.90 <= coverage(binormal, "auroc_macro", norm.cdf(1 / np.sqrt(2))) <= 0.98
