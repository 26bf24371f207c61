"""One disease at a time: sensitivity, specificity, predictive values, AUROC, each with its n; and who is taken for whom.

A Sample flows in; rows of plain figures flow out, one for every class of the model, also those that no case has.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from distmed.evaluate.figure import SMALLEST_CELL, Figure, figure, proportion, undefined
from distmed.evaluate.metrics import FEW_CASES
from distmed.evaluate.ranks import per_class
from distmed.evaluate.sample import Sample

STATED_PREVALENCE = 0.01
WORST_PAIRS = 50


FIGURES = ("sensitivity", "specificity", "ppv", "npv", "auroc", "auprc", "f1")


def per_disease(sample: Sample, labels: list[str], names: list[str], *, small_cells: bool) -> list[dict[str, Any]]:
    """A row a class. Proportions carry Wilson intervals; a figure that has no case is undefined, never 0.

    A disease of fewer than five patients is named, and nothing else of it told, unless `small_cells`.
    """
    gold_K = np.bincount(sample.gold_N, minlength=sample.classes)
    predicted_K = np.bincount(sample.predicted_N, minlength=sample.classes)
    right_K = np.bincount(sample.gold_N[sample.correct_N], minlength=sample.classes)
    auroc_BC, auprc_BC, _ = per_class(sample.probabilities_NK, sample.gold_N, np.ones((1, sample.cases), np.float32))
    place = {int(k): c for c, k in enumerate(sample.classes_present)}
    rows = []
    for k, (label, name) in enumerate(zip(labels, names, strict=True)):
        n, predicted, right = int(gold_K[k]), int(predicted_K[k]), int(right_K[k])
        if 0 < n < SMALLEST_CELL and not small_cells:
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
                "auroc": _area(auroc_BC, place.get(k), n, others, "rank sum (Hanley & McNeil 1982)"),
                "auprc": _area(auprc_BC, place.get(k), n, others, "average precision"),
                "f1": figure(2 * right / (n + predicted), n, "f1") if n + predicted else undefined("undefined, n=0"),
                "ppv_at": {
                    "prevalence": STATED_PREVALENCE,
                    "value": ppv_at(sensitivity["value"], specificity["value"], STATED_PREVALENCE),
                },
            }
        )
    return rows


def _hidden(label: str, name: str) -> dict[str, Any]:
    told = {"label": label, "name": name, "n": None, "prevalence": None, "few": True, "suppressed": True}
    hidden = {figure: undefined("fewer than 5 patients") for figure in FIGURES}
    return {**told, **hidden, "ppv_at": {"prevalence": STATED_PREVALENCE, "value": None}}


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


def _area(areas_BC: Any, place: int | None, n: int, others: int, method: str) -> Figure:
    if place is None or not others:
        return undefined(f"undefined, n={n}" if n == 0 else "undefined, no case of another class", n)
    return figure(float(areas_BC[0, place]), n, method)
