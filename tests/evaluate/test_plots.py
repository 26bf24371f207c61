"""The plots that training sends to W&B hold the points that they say."""

from __future__ import annotations

import numpy as np
import pytest

from distmed.evaluate.plots import plots


def test_roc_equals_scikit_learn(drawn):
    from sklearn.metrics import roc_auc_score

    cases = drawn()
    roc, _ = plots(cases.probabilities_NK, cases.gold_N)
    truth = cases.gold_N[:, None] == np.arange(8)
    area = np.trapezoid(roc.lines[0].y, roc.lines[0].x)
    assert area == pytest.approx(roc_auc_score(truth.ravel(), cases.probabilities_NK.ravel()), abs=0.002)


def test_reliability_by_hand():
    probabilities = np.array([[0.95, 0.05], [0.97, 0.03], [0.55, 0.45]], np.float32)
    model = plots(probabilities, np.array([0, -1, 0]), least=1)[-1].lines[0]
    assert model.x == pytest.approx([0.55, 0.96]) and model.y == [1, 0.5]


def test_bins_of_fewer_than_five_patients_are_not_drawn():
    probabilities = np.array([[0.95, 0.05]] * 5 + [[0.55, 0.45]] * 4, np.float32)
    assert plots(probabilities, np.zeros(9, int))[-1].lines[0].x == pytest.approx([0.95])


def test_cases_that_the_model_has_no_class_for_give_no_roc_and_no_crash():
    assert [plot.name for plot in plots(np.array([[0.9, 0.1]]), np.array([-1]))] == ["diag/reliability"]
