"""Plots: the curves that training sends to W&B at every evaluation, cheap enough to be drawn each time.

Probabilities and gold labels flow in, named lines of at most 201 points flow out.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from distmed.evaluate.figure import SMALLEST_CELL
from distmed.evaluate.metrics import ECE_BINS, NOT_A_CLASS, Floats, Ints

# N: cases, K: labels, P: points, J: bins.
POINTS = 201
PAIRS_AT_MOST = 5_000_000


@dataclass(frozen=True)
class Line:
    name: str
    x: list[float]
    y: list[float]


@dataclass(frozen=True)
class Plot:
    """`name` is its place in W&B, `across` what its x axis shows."""

    name: str
    title: str
    across: str
    lines: tuple[Line, ...]


def plots(probabilities_NK: Floats, gold_N: Ints, least: int = SMALLEST_CELL) -> list[Plot]:
    """The ROC curve over all (case, class) pairs, and accuracy against confidence; a case without a class counts as wrong.

    Bins of confidence with fewer than `least` patients are left out.
    """
    roc = _roc(probabilities_NK, gold_N)
    return [*([roc] if roc else []), _reliability(probabilities_NK, gold_N, least)]


def _roc(probabilities_NK: Floats, gold_N: Ints) -> Plot | None:
    from sklearn.metrics import roc_curve

    every = max(1, -(-probabilities_NK.size // PAIRS_AT_MOST))
    scores_NK, gold_N = probabilities_NK[::every], gold_N[::every]
    truth_NK = gold_N[:, None] == np.arange(scores_NK.shape[1])
    if not truth_NK.any() or truth_NK.all():
        return None
    false_P, true_P, _ = roc_curve(truth_NK.ravel(), scores_NK.ravel())
    grid_P = np.linspace(0, 1, POINTS)
    lines = (
        Line("all diagnoses", _rounded(grid_P), _rounded(np.interp(grid_P, false_P, true_P))),
        Line("chance", [0.0, 1.0], [0.0, 1.0]),
    )
    return Plot("diag/roc", "ROC, all diagnoses pooled", "false positive rate", lines)


def _reliability(probabilities_NK: Floats, gold_N: Ints, least: int) -> Plot:
    confidence_N = probabilities_NK.max(axis=1)
    correct_N = (probabilities_NK.argmax(axis=1) == gold_N) & (gold_N != NOT_A_CLASS)
    bin_N = np.clip((confidence_N * ECE_BINS).astype(int), 0, ECE_BINS - 1)
    count_J = np.bincount(bin_N, minlength=ECE_BINS)
    full = count_J >= least
    mean_J, accuracy_J = (
        np.bincount(bin_N, weights=values_N, minlength=ECE_BINS)[full] / count_J[full]
        for values_N in (confidence_N, correct_N)
    )
    lines = (
        Line("model", _rounded(mean_J), _rounded(accuracy_J)),
        Line("perfectly calibrated", [0.0, 1.0], [0.0, 1.0]),
    )
    return Plot("diag/reliability", "Reliability", "confidence", lines)


def _rounded(values_P: Floats) -> list[float]:
    return [round(float(value), 5) for value in values_P]
