"""One disease at a time: sensitivity, specificity, predictive values, AUROC, each with its n; and who is taken for whom.

A Sample flows in; rows of plain figures flow out, one for every class of the model, also those that no case has.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from distmed.evaluate.bootstrap import bootstrapped, clustered
from distmed.evaluate.figure import SMALLEST_CELL, Figure, figure, is_few, limits_to_read, undefined, untold
from distmed.evaluate.metrics import FEW_CASES
from distmed.evaluate.sample import Counts, Floats, Sample

STATED_PREVALENCE = 0.01
WORST_PAIRS = 50
FIGURES = ("sensitivity", "specificity", "ppv", "npv", "auroc", "auprc", "f1", "ppv_at")


def per_disease(
    sample: Sample,
    labels: list[str],
    names: list[str],
    groups: Sequence[str],
    weights_BN: Floats,
    *,
    small_cells: bool,
) -> list[dict[str, Any]]:
    """A row a class. A figure that has no case is undefined, never 0.

    `groups` and `weights_BN` are in the order in which the sample was made. A disease of fewer than five patients is named, and
    nothing else of it told, unless `small_cells`.
    """
    shares, drawn = _shares(sample, groups, weights_BN), _drawn(sample, groups, weights_BN)
    absent = {name: undefined("undefined, n=0") for name in ("auroc", "auprc", "f1")}
    rows = []
    for k, (label, name) in enumerate(zip(labels, names, strict=True)):
        n = shares[k]["sensitivity"]["n"]
        if is_few(n) and not small_cells:
            rows.append(_hidden(label, name))
            continue
        rows.append(
            {
                "label": label,
                "name": name,
                "n": n,
                "prevalence": n / sample.cases,
                "few": n < FEW_CASES,
                "suppressed": False,
                **shares[k],
                **drawn.get(k, absent),
                "ppv_at": _ppv_at_stated(shares[k]["sensitivity"], shares[k]["specificity"], sample.cases),
            }
        )
    return rows


def _shares(sample: Sample, groups: Sequence[str], weights_BN: Floats) -> list[dict[str, Figure]]:
    """Sensitivity, specificity, PPV and NPV of every class."""
    _, group_N = np.unique(np.asarray(groups, dtype=object)[sample.order].astype(str), return_inverse=True)

    def clusters(of_N: NDArray[np.bool_]) -> int:
        return int(np.count_nonzero(np.bincount(group_N[of_N])))

    def parts(counts: Counts, total_B1: Floats) -> dict[str, tuple[Floats, Floats]]:
        gold_BK, predicted_BK, right_BK = counts
        neither_BK = total_B1 - gold_BK - predicted_BK + right_BK
        return {
            "sensitivity": (right_BK, gold_BK),
            "specificity": (neither_BK, total_B1 - gold_BK),
            "ppv": (right_BK, predicted_BK),
            "npv": (neither_BK, total_B1 - predicted_BK),
        }

    once = parts(sample.counts(), np.array([[float(sample.cases)]]))
    with np.errstate(invalid="ignore", divide="ignore"):
        drawn = parts(sample.counts(weights_BN), weights_BN.sum(axis=1, dtype=np.float64)[:, None])
        drawn_BK = {name: hits_BK / of_BK for name, (hits_BK, of_BK) in drawn.items()}
    rows = []
    for k in range(sample.classes):
        is_N, said_N = sample.gold_N == k, sample.predicted_N == k
        of = {"sensitivity": is_N, "specificity": ~is_N, "ppv": said_N, "npv": ~said_N}
        rows.append(
            {
                name: clustered(int(hits_1K[0, k]), int(of_1K[0, k]), drawn_BK[name][:, k], clusters(of[name]))
                for name, (hits_1K, of_1K) in once.items()
            }
        )
    return rows


def _drawn(sample: Sample, groups: Sequence[str], weights_BN: Floats) -> dict[int, dict[str, Figure]]:
    """AUROC, AUPRC and F1 of the classes present, with the interval of their draws."""
    present, once, areas = sample.classes_present, sample.areas(), sample.areas(weights_BN)
    found = {
        "auroc": (once.auroc_BC[0], areas.auroc_BC),
        "auprc": (once.auprc_BC[0], areas.auprc_BC),
        "f1": (sample.f1()[0, present], sample.f1(weights_BN)[:, present]),
    }
    group_N = np.asarray(groups, dtype=object)[sample.order]
    rows = {}
    for c, own_n in enumerate(np.split(group_N, sample.starts[1:])):
        own = len(set(own_n.tolist()))
        rows[int(present[c])] = {
            name: bootstrapped(float(value_C[c]), drawn_BC[:, c], len(own_n), own)
            for name, (value_C, drawn_BC) in found.items()
        }
    if len(present) == 1:
        rows[int(present[0])] |= dict.fromkeys(
            ("auroc", "auprc"), undefined("undefined, no case of another class", sample.cases)
        )
    return rows


def _ppv_at_stated(sensitivity: Figure, specificity: Figure, cases: int) -> Figure:
    """Between the values at the lower and at the upper limits of both, which are independent of each other."""
    value = ppv_at(sensitivity["value"], specificity["value"], STATED_PREVALENCE)
    if value is None:
        return undefined(sensitivity.get("why") or specificity.get("why") or "undefined, never predicted", cases)
    ends = zip(limits_to_read(sensitivity), limits_to_read(specificity), strict=True)
    low, high = (ppv_at(*end, STATED_PREVALENCE) for end in ends)
    over_groups = sensitivity["cluster_method"] or specificity["cluster_method"]
    method = f"{'limits over groups' if over_groups else 'Wilson limits'} of sensitivity and specificity"
    method = method if low is not None else "no interval: one group"
    return figure(value, cases, method, low, high, prevalence=STATED_PREVALENCE)


def _hidden(label: str, name: str) -> dict[str, Any]:
    told = {"label": label, "name": name, "n": None, "prevalence": None, "few": True, "suppressed": True}
    return {**told, **{figure: untold() for figure in FIGURES}}


def ppv_at(sensitivity: float | None, specificity: float | None, prevalence: float) -> float | None:
    """Predictive value where the disease is as frequent as stated (Altman & Bland 1994, doi:10.1136/bmj.309.6947.102)."""
    if sensitivity is None or specificity is None:
        return None
    positive = sensitivity * prevalence + (1 - specificity) * (1 - prevalence)
    return sensitivity * prevalence / positive if positive else None


def confusion(
    sample: Sample, labels: list[str], names: list[str], *, small_cells: bool
) -> tuple[list[dict[str, Any]], int]:
    """The pairs (gold, predicted) that were confused, most frequent first, and how many pairs of few patients are not told."""
    wrong_N = ~sample.correct_N
    pairs = np.stack([sample.gold_N[wrong_N], sample.predicted_N[wrong_N]], axis=1)
    if not len(pairs):
        return [], 0
    pairs_M2, count_M = np.unique(pairs, axis=0, return_counts=True)
    shown_M = count_M >= (1 if small_cells else SMALLEST_CELL)
    rows = [
        {
            "gold": names[gold],
            "predicted": names[predicted],
            "gold_label": labels[gold],
            "predicted_label": labels[predicted],
            "n": int(count_M[m]),
        }
        for m in np.argsort(-count_M, kind="stable")
        if shown_M[m]
        for gold, predicted in [pairs_M2[m].tolist()]
    ]
    return rows[:WORST_PAIRS], int((~shown_M).sum())
