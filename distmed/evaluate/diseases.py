"""One disease at a time: sensitivity, specificity, predictive values, AUROC, each with its n; and who is taken for whom.

A Sample flows in; rows of plain figures flow out, one for every class of the model, also those that no case has.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from distmed.evaluate.bootstrap import bootstrapped
from distmed.evaluate.figure import SMALLEST_CELL, Figure, figure, is_few, proportion, undefined, untold
from distmed.evaluate.metrics import FEW_CASES
from distmed.evaluate.sample import Floats, Sample

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
    gold_K = np.bincount(sample.gold_N, minlength=sample.classes)
    predicted_K = np.bincount(sample.predicted_N, minlength=sample.classes)
    right_K = np.bincount(sample.gold_N[sample.correct_N], minlength=sample.classes)
    drawn = _drawn(sample, groups, weights_BN)
    absent = {name: undefined("undefined, n=0") for name in ("auroc", "auprc", "f1")}
    rows = []
    for k, (label, name) in enumerate(zip(labels, names, strict=True)):
        n, predicted, right = int(gold_K[k]), int(predicted_K[k]), int(right_K[k])
        if is_few(n) and not small_cells:
            rows.append(_hidden(label, name))
            continue
        others = sample.cases - n
        sensitivity, specificity = proportion(right, n), proportion(others - predicted + right, others)
        rows.append(
            {
                "label": label,
                "name": name,
                "n": n,
                "prevalence": n / sample.cases,
                "few": n < FEW_CASES,
                "suppressed": False,
                "sensitivity": sensitivity,
                "specificity": specificity,
                "ppv": proportion(right, predicted),
                "npv": proportion(others - predicted + right, sample.cases - predicted),
                **drawn.get(k, absent),
                "ppv_at": _ppv_at_stated(sensitivity, specificity, sample.cases),
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
    value, low, high = (ppv_at(sensitivity[of], specificity[of], STATED_PREVALENCE) for of in ("value", "low", "high"))
    if value is None:
        return undefined(sensitivity.get("why") or specificity.get("why") or "undefined, never predicted", cases)
    return figure(value, cases, "Wilson limits of sensitivity and specificity", low, high, prevalence=STATED_PREVALENCE)


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
