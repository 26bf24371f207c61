"""Temperature scaling finds the temperature that was put in; bins hold what a reliability diagram draws."""

from __future__ import annotations

import numpy as np
import pytest

from distmed.evaluate.calibration import fit_temperature, reliability, scale, without_few
from distmed.evaluate.sample import Sample


def test_a_calibrated_model_keeps_its_temperature(drawn):
    cases = drawn(4000)
    assert fit_temperature(cases.probabilities_NK, cases.gold_N) == pytest.approx(1, abs=0.06)


def test_logits_that_are_three_times_too_large_are_divided_by_three(drawn):
    cases = drawn(4000, sharpness=3)
    temperature = fit_temperature(cases.probabilities_NK, cases.gold_N)
    assert temperature == pytest.approx(3, abs=0.2)
    before, after = (
        Sample(p, cases.gold_N).values() for p in (cases.probabilities_NK, scale(cases.probabilities_NK, temperature))
    )
    assert after["nll"][0] < before["nll"][0]
    assert after["ece"][0] < before["ece"][0] / 3
    assert after["top1"][0] == before["top1"][0]


def test_the_temperature_equals_that_of_a_gradient_descent_in_torch(drawn):
    import torch

    cases = drawn(500, sharpness=2)
    log_NK, gold_N = torch.tensor(cases.probabilities_NK).double().log(), torch.tensor(cases.gold_N)
    log_t = torch.zeros((), dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS([log_t], max_iter=50, line_search_fn="strong_wolfe")

    def closure():
        optimizer.zero_grad()
        loss = torch.nn.functional.cross_entropy(log_NK / log_t.exp(), gold_N)
        loss.backward()
        return loss

    optimizer.step(closure)
    assert fit_temperature(cases.probabilities_NK, cases.gold_N) == pytest.approx(log_t.exp().item(), rel=1e-3)


def test_scaling_is_dividing_the_logits():
    logits_NK = np.array([[2.0, 0.0, -1.0], [0.5, 0.6, 0.7]])
    softmax = lambda x: np.exp(x) / np.exp(x).sum(axis=1, keepdims=True)  # noqa: E731
    assert scale(softmax(logits_NK), 2.5) == pytest.approx(softmax(logits_NK / 2.5), abs=1e-6)


def test_probabilities_of_zero_stay_finite():
    assert np.isfinite(scale(np.array([[1.0, 0.0]], np.float32), 0.5)).all()
    assert np.isfinite(fit_temperature(np.array([[1.0, 0.0]], np.float32), np.array([1])))


def test_bins_of_a_reliability_diagram():
    probabilities = np.array([[0.95, 0.05], [0.97, 0.03], [0.55, 0.45]], np.float32)
    bins = reliability(Sample(probabilities, np.array([0, 1, 0])))
    assert [b["n"] for b in bins if b["n"]] == [1, 2]
    last = bins[-1]
    assert (last["low"], last["high"], last["accuracy"]) == (14 / 15, 1, 0.5)
    assert last["confidence"] == pytest.approx(0.96)
    assert bins[0] == {"low": 0, "high": 1 / 15, "n": 0, "confidence": None, "accuracy": None}


def test_bins_of_equal_mass_hold_equally_many(drawn):
    cases = drawn(300)
    assert [b["n"] for b in reliability(Sample(cases.probabilities_NK, cases.gold_N), by_mass=True)] == [20] * 15


def test_of_a_bin_of_four_patients_nothing_is_told():
    probabilities = np.array([[0.95, 0.05]] * 5 + [[0.55, 0.45]] * 4, np.float32)
    bins = without_few(reliability(Sample(probabilities, np.zeros(9, int))))
    assert [b["n"] for b in bins if b["n"]] == [5]
    assert [set(b.values()) for b in bins if b["few"]] == [{None, True}]
