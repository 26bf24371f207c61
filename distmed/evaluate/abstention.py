"""Abstention: what a model that may say "I do not know" is right about, and sets of diagnoses that hold what they promise.

Thresholds are learned on the calibration split and then applied to the test split as they are; nothing here looks at both.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray

# N: cases, K: labels.
Floats = NDArray[np.floating]
Ints = NDArray[np.integer]
Bools = NDArray[np.bool_]

COVERAGES = (80, 90)
RISK = 0.05
ALPHA = 0.1


@dataclass(frozen=True)
class Thresholds:
    """Answer where the confidence reaches the threshold. `risk_5` is None where no coverage keeps the risk at 5 %.

    `quantile` is that of the conformal sets (infinite: every set holds all labels); `fitted_on`: calibration cases.
    """

    coverage_80: float
    coverage_90: float
    risk_5: float | None
    quantile: float
    fitted_on: int

    def to_dict(self) -> dict[str, float | int | None]:
        values = asdict(self)
        return {**values, "quantile": None if math.isinf(self.quantile) else self.quantile}


def fit_thresholds(confidence_N: Floats, correct_N: Bools, true_probability_N: Floats) -> Thresholds:
    """Thresholds from calibration cases: their confidence, whether they were right, the probability of the true class."""
    descending_N = np.sort(confidence_N)[::-1]
    coverages = {c: float(descending_N[-(-len(descending_N) * c // 100) - 1]) for c in COVERAGES}
    return Thresholds(
        coverage_80=coverages[80],
        coverage_90=coverages[90],
        risk_5=threshold_for_risk(confidence_N, correct_N, RISK),
        quantile=conformal_quantile(true_probability_N, ALPHA),
        fitted_on=len(confidence_N),
    )


def threshold_for_risk(confidence_N: Floats, correct_N: Bools, risk: float) -> float | None:
    """The lowest confidence above which at most `risk` of the answers are wrong; equal confidences go together."""
    order = np.argsort(-confidence_N, kind="stable")
    sorted_N = confidence_N[order]
    risk_N = np.cumsum(~correct_N[order]) / np.arange(1, len(order) + 1)
    ends_N = np.append(sorted_N[1:] != sorted_N[:-1], True)
    good = np.flatnonzero(ends_N & (risk_N <= risk))
    return float(sorted_N[good[-1]]) if len(good) else None


def conformal_quantile(true_probability_N: Floats, alpha: float) -> float:
    """The score 1 - p(true) that a new case stays below with probability 1 - alpha (Sadinle et al. 2019,
    doi:10.1080/01621459.2017.1395341, with the finite-sample level of Vovk et al. 2005); infinite if there are too few cases.
    """
    n = len(true_probability_N)
    rank = math.ceil((n + 1) * (1 - alpha))
    return float(np.sort(1 - true_probability_N)[rank - 1]) if rank <= n else math.inf


def conformal_sets(probabilities_NK: Floats, quantile: float) -> Bools:
    """Which labels are in the set of each case: those whose score 1 - p is at most the quantile."""
    sets_NK: Bools = (1 - probabilities_NK) <= quantile
    return sets_NK


def risk_coverage(confidence_N: Floats, correct_N: Bools) -> tuple[Floats, Floats]:
    """(coverage, risk) when the most confident cases are answered first; one point for each distinct confidence."""
    order = np.argsort(-confidence_N, kind="stable")
    sorted_N = confidence_N[order]
    ends_N = np.append(sorted_N[1:] != sorted_N[:-1], True)
    answered_N = np.arange(1, len(order) + 1)
    return answered_N[ends_N] / len(order), (np.cumsum(~correct_N[order]) / answered_N)[ends_N]
