"""Comparison: two models on the same cases, paired, since most of what moves a score is which cases there are.

Two Samples of the same cases in the same label space flow in; an exact test of first answers and paired differences flow out.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from distmed.evaluate.bootstrap import bootstrapped
from distmed.evaluate.figure import undefined
from distmed.evaluate.sample import Sample

# N: cases, B: draws, G: groups.
Bools = NDArray[np.bool_]

COMPARED = (
    *("top1", "top3", "top5", "macro_f1", "balanced_accuracy", "mcc", "auroc_macro", "auprc_macro"),
    *("nll", "brier", "ece", "ece_mass", "aurc"),
)


def compare(
    this: Sample, other: Sample, weights_BN: NDArray[np.float32], groups: Sequence[str], *, all_known: bool = True
) -> dict[str, Any]:
    """McNemar over top-1, and every headline figure of both with the interval of its difference over the same draws.

    `weights_BN` and `groups` are in the order in which the samples were made. Unless `all_known`, the other has
    probability 0 for the diagnosis of some case, of which the logarithm is no figure: then there is no nll of it.
    """
    figures: dict[str, Any] = {}
    count = len(set(groups))
    values = [(sample.values(), sample.values(weights_BN)) for sample in (this, other)]
    for name in COMPARED:
        (a, a_B), (b, b_B) = ((float(estimate[name][0]), drawn[name]) for estimate, drawn in values)
        if np.isfinite(a) and np.isfinite(b):
            figures[name] = {"this": a, "other": b, "difference": bootstrapped(a - b, a_B - b_B, this.cases, count)}
    if not all_known:
        why = "undefined, the other does not know every diagnosis"
        figures["nll"] |= {"other": None, "difference": undefined(why, this.cases)}
    test = mcnemar(this.correct_N, other.correct_N, [groups[n] for n in this.order.tolist()])
    return {"mcnemar": test, "figures": figures}


def mcnemar(this_N: Bools, other_N: Bools, groups: Sequence[str]) -> dict[str, Any]:
    """The exact test (McNemar 1947, binomial over the cases on which only one of two is right), by statsmodels.

    It takes cases as independent; where some share a group, p is that of a permutation over the groups instead.
    """
    from statsmodels.stats.contingency_tables import mcnemar as test

    only_this, only_other = int((this_N & ~other_N).sum()), int((~this_N & other_N).sum())
    names, group_N = np.unique(np.asarray(groups, dtype=object).astype(str), return_inverse=True)
    if len(names) < len(this_N):
        change_N = this_N.astype(np.int64) - other_N
        p = sign_flip_p(np.bincount(group_N, weights=change_N).astype(np.int64))
        method = f"exact sign-flip permutation over {len(names)} groups"
    else:
        both, neither = int((this_N & other_N).sum()), int((~this_N & ~other_N).sum())
        p, method = float(test([[both, only_this], [only_other, neither]], exact=True).pvalue), "exact McNemar"
    return {"only_this": only_this, "only_other": only_other, "p": p, "p_holm": p, "method": method}


def sign_flip_p(change_G: NDArray[np.int64]) -> float:
    """Two-sided p of the sum of the groups' paired differences, when each group's sign may be either with equal chance.

    Fisher 1935, The Design of Experiments, section 21; flipping whole groups because their cases are not exchangeable one by
    one: Winkler et al. 2014 (doi:10.1016/j.neuroimage.2014.01.060). The sums are whole numbers, so their distribution over all
    2^G signs is built up group by group (Pagano & Tritchler 1983, JASA 78:435), and no signs have to be drawn. Where groups
    differ by one case at most it is McNemar's exact test.
    """
    size_G = np.abs(change_G[change_G != 0])
    most = int(size_G.sum())
    share_S = np.zeros(2 * most + 1)
    share_S[most] = 1
    for size in size_G.tolist():
        share_S = (np.roll(share_S, size) + np.roll(share_S, -size)) / 2
    as_far_S = np.abs(np.arange(-most, most + 1)) >= abs(int(change_G.sum()))
    return min(1.0, float(share_S[as_far_S].sum()))


def holm(comparisons: list[dict[str, Any]]) -> None:
    """Adjust the p of all comparisons together (Holm 1979), by statsmodels."""
    from statsmodels.stats.multitest import multipletests

    if comparisons:
        tests = [comparison["mcnemar"] for comparison in comparisons]
        for test, p in zip(tests, multipletests([test["p"] for test in tests], method="holm")[1], strict=True):
            test["p_holm"] = float(p)
