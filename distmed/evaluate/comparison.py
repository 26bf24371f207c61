"""Comparison: two models on the same cases, paired, since most of what moves a score is which cases there are.

Two Samples of the same cases in the same label space flow in; exact McNemar and paired differences flow out.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from distmed.evaluate.bootstrap import bootstrapped
from distmed.evaluate.sample import Sample

# N: cases, B: draws.
Bools = NDArray[np.bool_]

COMPARED = (
    *("top1", "top3", "top5", "macro_f1", "balanced_accuracy", "mcc", "auroc_macro", "auprc_macro"),
    *("nll", "brier", "ece", "ece_mass", "aurc"),
)


def compare(this: Sample, other: Sample, weights_BN: NDArray[np.float32], groups: int) -> dict[str, Any]:
    """McNemar over top-1, and every headline figure of both with the interval of its difference over the same draws."""
    figures = {}
    values = [(sample.values(), sample.values(weights_BN)) for sample in (this, other)]
    for name in COMPARED:
        (a, a_B), (b, b_B) = ((float(estimate[name][0]), drawn[name]) for estimate, drawn in values)
        if np.isfinite(a) and np.isfinite(b):
            figures[name] = {"this": a, "other": b, "difference": bootstrapped(a - b, a_B - b_B, this.cases, groups)}
    return {"mcnemar": mcnemar(this.correct_N, other.correct_N), "figures": figures}


def mcnemar(this_N: Bools, other_N: Bools) -> dict[str, Any]:
    """The exact test (McNemar 1947, binomial over the cases on which only one of two is right), by statsmodels."""
    from statsmodels.stats.contingency_tables import mcnemar as test

    only_this, only_other = int((this_N & ~other_N).sum()), int((~this_N & other_N).sum())
    both, neither = int((this_N & other_N).sum()), int((~this_N & ~other_N).sum())
    p = float(test([[both, only_this], [only_other, neither]], exact=True).pvalue)
    return {"only_this": only_this, "only_other": only_other, "p": p, "p_holm": p, "method": "exact McNemar"}


def holm(comparisons: list[dict[str, Any]]) -> None:
    """Adjust the p of all comparisons together (Holm 1979), by statsmodels."""
    from statsmodels.stats.multitest import multipletests

    if comparisons:
        tests = [comparison["mcnemar"] for comparison in comparisons]
        for test, p in zip(tests, multipletests([test["p"] for test in tests], method="holm")[1], strict=True):
            test["p_holm"] = float(p)
