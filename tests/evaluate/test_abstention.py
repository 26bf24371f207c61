"""Thresholds learned on one split keep their promise on another; sets hold the true diagnosis as often as they say."""

from __future__ import annotations

import math

import numpy as np
import pytest

from distmed.evaluate.abstention import (
    conformal_quantile,
    conformal_sets,
    fit_thresholds,
    risk_coverage,
    threshold_for_risk,
)
from distmed.evaluate.sample import Sample


def test_risk_and_coverage_by_hand():
    coverage, risk = risk_coverage(np.array([0.9, 0.8, 0.7, 0.7]), np.array([True, False, True, False]))
    assert coverage.tolist() == [0.25, 0.5, 1]
    assert risk.tolist() == [0, 0.5, 0.5]


def test_the_area_under_risk_and_coverage_is_the_figure_aurc(drawn):
    cases = drawn()
    sample = Sample(cases.probabilities_NK, cases.gold_N)
    _, risk = risk_coverage(sample.confidence_N, sample.correct_N)
    assert sample.values()["aurc"][0] == pytest.approx(risk.mean(), abs=1e-6)


def test_the_threshold_for_a_risk_answers_as_many_cases_as_it_can():
    confidence = np.array([0.9, 0.8, 0.7, 0.6, 0.5])
    correct = np.array([True, True, False, True, True])
    assert threshold_for_risk(confidence, correct, 0.25) == 0.5
    assert threshold_for_risk(confidence, correct, 0.1) == 0.8


def test_equal_confidences_are_answered_together_or_not_at_all():
    assert threshold_for_risk(np.array([0.9, 0.9]), np.array([True, False]), 0.1) is None


def test_a_model_that_is_always_wrong_answers_nothing():
    assert threshold_for_risk(np.array([0.9, 0.5]), np.array([False, False]), 0.05) is None


def test_thresholds_of_coverage_cover_that_share_of_the_calibration_split(drawn):
    cases = drawn(1000)
    sample = Sample(cases.probabilities_NK, cases.gold_N)
    limits = fit_thresholds(sample.confidence_N, sample.correct_N, np.exp(-sample.nll_N))
    assert (sample.confidence_N >= limits.coverage_80).mean() == pytest.approx(0.8, abs=0.002)
    assert (sample.confidence_N >= limits.coverage_90).mean() == pytest.approx(0.9, abs=0.002)


@pytest.mark.parametrize("cases", [1, 7, 10, 11, 100, 101])
def test_no_more_calibration_cases_are_covered_than_the_coverage_needs(cases):
    confidence = np.random.default_rng(0).permutation(np.arange(1, cases + 1) / cases)
    limits = fit_thresholds(confidence, np.ones(cases, bool), confidence)
    assert (confidence >= limits.coverage_80).sum() == -(-cases * 80 // 100)
    assert (confidence >= limits.coverage_90).sum() == -(-cases * 90 // 100)


def test_the_conformal_quantile_is_the_score_of_rank_n_plus_one_times_one_minus_alpha():
    # n = 9, alpha = 0.1: rank ceil(10 * 0.9) = 9, the largest score.
    assert conformal_quantile(np.linspace(0.1, 0.9, 9), 0.1) == pytest.approx(0.9)
    assert math.isinf(conformal_quantile(np.linspace(0.1, 0.8, 8), 0.1))


def test_too_few_calibration_cases_give_sets_of_all_labels():
    assert conformal_sets(np.array([[0.9, 0.1]]), math.inf).all()


def test_sets_hold_the_truth_nine_times_in_ten(drawn):
    held = []
    for seed in range(40):
        cases = drawn(400, sharpness=2, seed=seed)
        calibration, test = slice(0, 200), slice(200, 400)
        true_N = cases.probabilities_NK[np.arange(400), cases.gold_N]
        sets_NK = conformal_sets(cases.probabilities_NK[test], conformal_quantile(true_N[calibration], 0.1))
        held.append(sets_NK[np.arange(200), cases.gold_N[test]].mean())
    assert np.mean(held) == pytest.approx(0.9, abs=0.015)
