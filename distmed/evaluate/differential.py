"""Differentials: a model's ranking held against a gold list of possible diagnoses, by the definitions of DDXPlus.

Fansi Tchango et al. 2022, DDXPlus, arXiv:2205.09148, section 4: a differential is every disease that has a probability above
0.01. Probabilities and gold differentials flow in, figures flow out.
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
SOURCE = "DDXPlus, arXiv:2205.09148"


def differential_figures(
    probabilities_NK: Floats,
    gold_N: Ints,
    differentials: Sequence[Mapping[int, float]],
    severity_K: NDArray[np.floating] | None,
    weights_BN: Floats,
    groups: int,
) -> dict[str, Figure]:
    """GTPA (the true pathology is in the predicted differential), GTPA@k (among the first k), DDR, DDP and DDF1.

    `differentials`: class -> probability of each case; a disease that the model does not know has a negative number and counts
    as missed. DDR and DDP are means over the cases of recall and precision, DDF1 is the harmonic mean of the two.
    severity_recall weighs a disease of the gold differential by 6 - severity (1 is worst): DDXPlus' recall, with severe
    diseases counting more; `severity_K` is NaN where it is not known, and such diseases are left out.
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
    each = {
        "gtpa": named_NK[np.arange(cases), gold_N].astype(float),
        **{f"gtpa_at_{k}": (rank_N < k).astype(float) for k in (1, 3, 5)},
        "ddr": recall_N,
        "ddp": precision_N,
    }
    if severity_K is not None:
        weight_K = np.where(np.isfinite(severity_K), MILDEST + 1 - severity_K, 0)
        weight_N = gold_NK @ weight_K
        with np.errstate(invalid="ignore", divide="ignore"):
            each["severity_recall"] = ((named_NK & gold_NK) @ weight_K) / weight_N
    figures = {}
    drawn = {}
    for name, value_N in each.items():
        known_N = np.isfinite(value_N)
        if not known_N.any():
            figures[name] = undefined("undefined, n=0")
            continue
        w_BN = weights_BN[:, known_N]
        with np.errstate(invalid="ignore", divide="ignore"):
            drawn[name] = (w_BN @ value_N[known_N]) / w_BN.sum(axis=1)
        mean, n = float(value_N[known_N].mean()), int(known_N.sum())
        figures[name] = bootstrapped(mean, drawn[name], n, groups, source=SOURCE)
    f1 = harmonic(np.array([recall_N.mean()]), np.array([precision_N.mean()]))
    figures["ddf1"] = bootstrapped(float(f1[0]), harmonic(drawn["ddr"], drawn["ddp"]), cases, groups, source=SOURCE)
    return figures


def harmonic(a: Floats, b: Floats) -> Floats:
    """Harmonic mean, 0 where both are 0."""
    return 2 * a * b / np.where(a + b > 0, a + b, 1)
