"""Curves: ROC and precision–recall over all classes, and risk against coverage, thin enough for a report.

A Sample flows in; lists of points flow out. `micro` pools every (case, class) pair; `macro` averages the classes' curves.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from distmed.evaluate.abstention import risk_coverage
from distmed.evaluate.figure import SMALLEST_CELL
from distmed.evaluate.sample import Sample

Floats = NDArray[np.floating]
Curve = dict[str, Any]

POINTS = 201
PAIRS_AT_MOST = 20_000_000


def curves(sample: Sample, *, small_cells: bool) -> dict[str, Any]:
    """ROC, precision–recall and risk–coverage; ROC and precision–recall need at least one case of another class.

    From one point of risk–coverage to the next are at least five answers, so that no single one can be read off, unless
    `small_cells`.
    """
    coverage_P, risk_P = risk_coverage(sample.confidence_N, sample.correct_N)
    if not small_cells:
        told = _apart(np.rint(coverage_P * sample.cases), SMALLEST_CELL)
        coverage_P, risk_P = coverage_P[told], risk_P[told]
    found: dict[str, Any] = {"risk_coverage": _curve(coverage_P, risk_P, area=float(sample.values()["aurc"][0]))}
    if len(sample.classes_present) < 2:
        return found
    roc, pr = roc_and_pr(sample)
    return {"roc": roc, "pr": pr, **found}


def roc_and_pr(sample: Sample) -> tuple[dict[str, Curve], dict[str, Curve]]:
    """({"micro", "macro"} of ROC, the same of precision–recall), by scikit-learn, on a grid of 201 points.

    Areas of precision–recall are average precision, that of `macro` the mean over the classes: auprc_macro.
    """
    from sklearn.metrics import auc, average_precision_score, precision_recall_curve, roc_auc_score, roc_curve

    grid_P = np.linspace(0, 1, POINTS)
    tpr, precision, average_precision = [], [], []
    for k in sample.classes_present:
        positive_N, score_N = sample.gold_N == k, sample.probabilities_NK[:, k]
        false_P, true_P, _ = roc_curve(positive_N, score_N)
        tpr.append(np.interp(grid_P, false_P, true_P))
        precision_P, recall_P, _ = precision_recall_curve(positive_N, score_N)
        average_precision.append(average_precision_score(positive_N, score_N))
        precision.append(_step(grid_P, recall_P[::-1], precision_P[::-1]))
    every = max(1, sample.cases * sample.classes // PAIRS_AT_MOST)
    scores_NK, truth_NK = sample.probabilities_NK[::every], sample.gold_N[::every, None] == np.arange(sample.classes)
    false_P, true_P, _ = roc_curve(truth_NK.ravel(), scores_NK.ravel())
    precision_P, recall_P, _ = precision_recall_curve(truth_NK.ravel(), scores_NK.ravel())
    mean_tpr_P, mean_precision_P = np.mean(tpr, axis=0), np.mean(precision, axis=0)
    roc = {
        "micro": _curve(false_P, true_P, area=float(roc_auc_score(truth_NK.ravel(), scores_NK.ravel()))),
        "macro": _curve(grid_P, mean_tpr_P, area=float(auc(grid_P, mean_tpr_P))),
    }
    pr = {
        "micro": _curve(
            recall_P[::-1], precision_P[::-1], area=float(average_precision_score(truth_NK.ravel(), scores_NK.ravel()))
        ),
        "macro": _curve(
            grid_P,
            mean_precision_P,
            area=float(np.mean(average_precision)),
            chance=1 / len(sample.classes_present),
        ),
    }
    return roc, pr


def _apart(answered_P: Floats, least: int) -> list[int]:
    """Places of points that lie at least so many answers after the one before; the last is among them if there are so many."""
    told: list[int] = []
    before = 0.0
    for place, answered in enumerate(answered_P.tolist()):
        if answered - before >= least and (answered_P[-1] - answered >= least or place == len(answered_P) - 1):
            told.append(place)
            before = answered
    return told


def _step(grid_P: Floats, recall_P: Floats, precision_P: Floats) -> Floats:
    """Precision at the least recall that reaches each point of the grid: no straight line between thresholds."""
    return precision_P[np.minimum(np.searchsorted(recall_P, grid_P, side="left"), len(recall_P) - 1)]


def _curve(x_P: Floats, y_P: Floats, **facts: float) -> Curve:
    """At most 201 of the points, the first and the last among them, spread evenly along x."""
    chosen = np.arange(len(x_P))
    if len(x_P) > POINTS:
        wanted = np.linspace(float(x_P[0]), float(x_P[-1]), POINTS)
        chosen = np.unique(np.append(np.searchsorted(x_P, wanted[:-1]), len(x_P) - 1))
    return {"x": _rounded(x_P[chosen]), "y": _rounded(y_P[chosen]), **facts}


def _rounded(values_P: Floats) -> list[float]:
    return [round(float(value), 5) for value in values_P]
