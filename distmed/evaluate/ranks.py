"""AUROC and average precision, one class against the rest, of all classes and all draws at once.

Both are means over the positives of something that counts the cases ranked above or below, and each case is the positive of
one class only. So N comparisons a case, N x N in all, serve every class; a draw is then a product with its weights.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

# N: cases, K: labels, B: draws, M: cases of a block.
Floats = NDArray[np.floating]
Ints = NDArray[np.integer]

BLOCK_ELEMENTS = 20_000_000


class Areas(NamedTuple):
    """AUROC, average precision and positives of the C classes in gold, for every draw; an area is NaN where it is undefined."""

    auroc_BC: Floats
    auprc_BC: Floats
    n_BC: Floats


def rank_figures(areas: Areas) -> dict[str, Floats]:
    """auroc_macro, auprc_macro and prevalence_macro for every draw; NaN where no class has both sides.

    Means run over the classes that are positive in the draw, for AUROC also negative.
    """
    auroc_BC, auprc_BC, n_BC = areas
    total_B = n_BC.sum(axis=1)
    present_BC = n_BC > 0
    both_BC = present_BC & (n_BC < total_B[:, None])
    with np.errstate(invalid="ignore"):
        return {
            "auroc_macro": np.where(both_BC, auroc_BC, 0).sum(axis=1) / both_BC.sum(axis=1),
            "auprc_macro": np.where(present_BC, auprc_BC, 0).sum(axis=1) / present_BC.sum(axis=1),
            "prevalence_macro": n_BC.sum(axis=1) / total_B / present_BC.sum(axis=1),
        }


def per_class(probabilities_NK: Floats, gold_N: Ints, w_BN: Floats) -> Areas:
    """The areas of N cases, sorted by gold, in draws that count each of them `w_BN` times.

    AUROC counts ties half (Hanley & McNeil 1982). AUPRC is average precision, sum over thresholds of (R_n - R_n-1) P_n, as
    scikit-learn computes it.
    """
    cases = len(gold_N)
    above_BN, right_BN, below_BN = (np.empty(w_BN.shape, np.float32) for _ in range(3))
    rows = max(1, BLOCK_ELEMENTS // cases)
    own_N = probabilities_NK[np.arange(cases), gold_N]
    for at in range(0, cases, rows):
        gold_M, own_M = gold_N[at : at + rows], own_N[at : at + rows]
        scores_NM = probabilities_NK[:, gold_M]
        same_NM = gold_N[:, None] == gold_M
        least_NM = scores_NM >= own_M
        lower_NM = (scores_NM < own_M) + np.float32(0.5) * (scores_NM == own_M)
        above_BN[:, at : at + rows] = w_BN @ least_NM.astype(np.float32)
        right_BN[:, at : at + rows] = w_BN @ (least_NM & same_NM).astype(np.float32)
        below_BN[:, at : at + rows] = w_BN @ np.where(same_NM, np.float32(0), lower_NM).astype(np.float32)
    _, starts = np.unique(gold_N, return_index=True)
    n_BC = np.add.reduceat(w_BN, starts, axis=1, dtype=np.float64)
    rest_BC = w_BN.sum(axis=1, dtype=np.float64)[:, None] - n_BC
    with np.errstate(invalid="ignore", divide="ignore"):
        precision_BN = np.where(above_BN > 0, right_BN / above_BN, 0)
        auroc_BC = np.add.reduceat(w_BN * below_BN, starts, axis=1, dtype=np.float64) / (n_BC * rest_BC)
        auprc_BC = np.add.reduceat(w_BN * precision_BN, starts, axis=1, dtype=np.float64) / n_BC
    return Areas(auroc_BC, auprc_BC, n_BC)
