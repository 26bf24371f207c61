"""Calibration: how far a probability can be believed, and one temperature that mends what one number can mend.

Probabilities and gold labels flow in; a temperature, and bins of confidence with the accuracy found in them, flow out.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from distmed.evaluate.figure import is_few
from distmed.evaluate.metrics import ECE_BINS
from distmed.evaluate.sample import TINY, Sample

# N: cases, K: labels, J: bins.
Floats = NDArray[np.floating]
Ints = NDArray[np.integer]

BOUNDS = (0.01, 100.0)


def fit_temperature(probabilities_NK: Floats, gold_N: Ints) -> float:
    """The temperature with the least negative log-likelihood (Guo et al. 2017, arXiv:1706.04599), by scipy.

    Fit it on a split of its own: on the split that is reported it would describe itself. It is a bound of the search, exactly,
    where none within is better: then the cases do not settle it.
    """
    from scipy.optimize import minimize_scalar

    log_NK = np.log(np.maximum(probabilities_NK.astype(np.float64), TINY))
    true_N = log_NK[np.arange(len(gold_N)), gold_N]

    def nll(log_temperature: float) -> float:
        scaled_NK = log_NK / np.exp(log_temperature)
        top_N1 = scaled_NK.max(axis=1, keepdims=True)
        normaliser_N = top_N1[:, 0] + np.log(np.exp(scaled_NK - top_N1).sum(axis=1))
        return float((normaliser_N - true_N / np.exp(log_temperature)).mean())

    found = minimize_scalar(nll, bounds=np.log(BOUNDS), method="bounded", options={"xatol": 1e-6})
    at_bound = next((bound for bound in BOUNDS if nll(np.log(bound)) <= found.fun), None)
    return float(np.exp(found.x)) if at_bound is None else at_bound


def scale(probabilities_NK: Floats, temperature: float) -> NDArray[np.float32]:
    """softmax(log p / temperature): the same as dividing the logits."""
    log_NK = np.log(np.maximum(probabilities_NK.astype(np.float64), TINY)) / temperature
    shifted_NK = np.exp(log_NK - log_NK.max(axis=1, keepdims=True))
    scaled_NK: NDArray[np.float32] = (shifted_NK / shifted_NK.sum(axis=1, keepdims=True)).astype(np.float32)
    return scaled_NK


def reliability(sample: Sample, *, by_mass: bool = False) -> list[dict[str, Any]]:
    """The bins of a reliability diagram: borders, cases, mean confidence, accuracy (None in an empty bin)."""
    bin_N = sample.mass_bin_N if by_mass else sample.width_bin_N
    bins = []
    for j in range(ECE_BINS):
        inside_N = bin_N == j
        n = int(inside_N.sum())
        confidence_n = sample.confidence_N[inside_N]
        low, high = (j / ECE_BINS, (j + 1) / ECE_BINS)
        if by_mass:
            low, high = (float(confidence_n.min()), float(confidence_n.max())) if n else (None, None)  # type: ignore[assignment]
        bins.append(
            {
                "low": low,
                "high": high,
                "n": n,
                "confidence": float(confidence_n.mean()) if n else None,
                "accuracy": float(sample.correct_N[inside_N].mean()) if n else None,
            }
        )
    return bins


def without_few(bins: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The same bins; of those with fewer than five patients nothing is told but that they are there."""
    return [dict.fromkeys(row) | {"few": True} if is_few(row["n"]) else row | {"few": False} for row in bins]
