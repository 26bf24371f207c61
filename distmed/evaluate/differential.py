"""Differentials: a model's ranking held against a gold list of possible diagnoses, by the definitions of DDXPlus.

Fansi Tchango et al. 2022, DDXPlus, arXiv:2205.09148, and what its authors' code (mila-iqia/ddxplus, code/basd/metrics.py)
computes: a differential is every disease that has a probability above 0.01. Probabilities and gold differentials flow in,
figures flow out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from distmed.evaluate.bootstrap import bootstrapped
from distmed.evaluate.figure import Figure, undefined

# N: cases, K: labels, B: draws.
Floats = NDArray[np.floating]
Ints = NDArray[np.integer]

THRESHOLD = 0.01
MILDEST = 5
SEVERE = 3
"""DDXPlus calls a disease severe whose severity is below this; 1 is worst."""
SOURCE = "DDXPlus, arXiv:2205.09148"


def differential_figures(
    probabilities_NK: Floats,
    gold_N: Ints,
    differentials: Sequence[Mapping[int, float]],
    severity_K: NDArray[np.floating] | None,
    weights_BN: Floats,
    groups: Sequence[str],
) -> dict[str, Figure]:
    """GTPA (the true pathology is in the predicted differential), GTPA@k (and among its first k), DDR, DDP and DDF1.

    `differentials`: class -> probability of each case; a disease that the model does not know has a negative number and counts
    as missed. DDR, DDP and DDF1 are means over the cases of recall, precision and their harmonic mean.
    dsr is the recall of the severe diseases of the gold differential, over the cases that have one (DDXPlus counts a case
    without one as 0). severity_recall, which is ours, weighs each disease by 6 - severity instead of cutting at a grade.
    `severity_K` is NaN where it is not known, and such diseases are left out of both. A figure whose cases are of one group has
    no interval.
    """
    cases, classes = probabilities_NK.shape
    named_NK = probabilities_NK > THRESHOLD
    gold_NK = np.zeros((cases, classes), bool)
    unknown_N = np.zeros(cases)
    for n, differential in enumerate(differentials):
        for k, probability in differential.items():
            if probability > THRESHOLD and k >= 0:
                gold_NK[n, k] = True
            elif probability > THRESHOLD:
                unknown_N[n] += 1
    both_N = (named_NK & gold_NK).sum(axis=1)
    recall_N = both_N / np.maximum(gold_NK.sum(axis=1) + unknown_N, 1)
    precision_N = both_N / np.maximum(named_NK.sum(axis=1), 1)
    ranked_NK = np.argsort(-probabilities_NK, axis=1, kind="stable")
    rank_N = (ranked_NK == gold_N[:, None]).argmax(axis=1)
    inside_N = named_NK[np.arange(cases), gold_N]
    each = {
        "gtpa": inside_N.astype(float),
        **{f"gtpa_at_{k}": (inside_N & (rank_N < k)).astype(float) for k in (1, 3, 5)},
        "ddr": recall_N,
        "ddp": precision_N,
        "ddf1": harmonic(recall_N, precision_N),
    }
    if severity_K is not None:
        known_K = np.isfinite(severity_K)
        weights = {
            "dsr": np.where(known_K & (severity_K < SEVERE), 1.0, 0.0),
            "severity_recall": np.where(known_K, MILDEST + 1 - severity_K, 0.0),
        }
        with np.errstate(invalid="ignore", divide="ignore"):
            each |= {name: ((named_NK & gold_NK) @ w_K) / (gold_NK @ w_K) for name, w_K in weights.items()}
    figures = {}
    group_N = np.asarray(groups, dtype=object)
    for name, value_N in each.items():
        known_N = np.isfinite(value_N)
        if not known_N.any():
            figures[name] = undefined("no such disease in a gold differential")
            continue
        w_BN = weights_BN[:, known_N]
        with np.errstate(invalid="ignore", divide="ignore"):
            drawn_B = (w_BN @ value_N[known_N]) / w_BN.sum(axis=1)
        mean, n = float(value_N[known_N].mean()), int(known_N.sum())
        source = "distmed, after DDXPlus" if name == "severity_recall" else SOURCE
        figures[name] = bootstrapped(mean, drawn_B, n, len(set(group_N[known_N].tolist())), source=source)
    return figures


def harmonic(a: Floats, b: Floats) -> Floats:
    """Harmonic mean, 0 where both are 0."""
    return 2 * a * b / np.where(a + b > 0, a + b, 1)
