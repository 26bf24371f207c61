"""Evidence: every figure of a model over its cases, with n, interval and method; the content of metrics.json.

Scored cases (and those of a calibration split) flow in, figures and sections by name flow out. Figures are over the cases whose
diagnosis is one class of the model; the others are counted and scored apart.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from distmed.evaluate.bootstrap import bootstrapped, clustered, draws, mean, share
from distmed.evaluate.curves import curves
from distmed.evaluate.diagnosed import OUT_OF_SET, SEVERAL, UNLABELLED, Diagnosed
from distmed.evaluate.differential import differential_figures
from distmed.evaluate.diseases import confusion, per_disease
from distmed.evaluate.figure import FEW, Figure, figure, is_few, undefined
from distmed.evaluate.learned import NO_CALIBRATION, Learned, abstention, after_temperature, calibration, learned_notes
from distmed.evaluate.metrics import NOT_A_CLASS
from distmed.evaluate.sample import Sample
from distmed.evaluate.subgroups import subgroup_figures

# N: cases in set, K: labels, B: draws.
Metrics = dict[str, Any]
Weights = NDArray[np.float32]

TOP = ("top1", "top3", "top5")
BOOTSTRAPPED = (
    "macro_f1",
    "micro_f1",
    "weighted_f1",
    "balanced_accuracy",
    "mcc",
    "auroc_macro",
    "auprc_macro",
    "nll",
    "brier",
    "ece",
    "ece_mass",
    "mce",
    "aurc",
)
MOST_UNKNOWN = 50


def evidence(scored: Diagnosed, learned: Learned | None, *, small_cells: bool) -> tuple[Metrics, Weights]:
    """The figures and sections that one model and its cases give, and the draws, for what is compared with it later."""
    groups = [scored.groups[n] for n in scored.in_set.tolist()]
    weights_BN = draws(groups)
    count = len(set(groups))
    sample = scored.sample
    metrics: Metrics = dict(headline(sample, weights_BN, count))
    metrics |= after_temperature(scored, learned, weights_BN, count)
    metrics |= abstention(scored, learned, weights_BN, groups)
    metrics["top1_all"] = _top1_all(scored)
    metrics |= _differential(scored, weights_BN, groups)
    rows, suppressed = confusion(sample, scored.space.labels, scored.space.names, small_cells=small_cells)
    metrics |= {
        "labels": _labels(scored),
        "out_of_set": _out_of_set(scored, learned, small_cells),
        "per_disease": per_disease(
            sample, scored.space.labels, scored.space.names, groups, weights_BN, small_cells=small_cells
        ),
        "confusion": rows,
        "confusion_suppressed": suppressed,
        "calibration": calibration(scored, learned, small_cells),
        "subgroups": {
            name: subgroup_figures(
                scored.probabilities_NK[scored.in_set],
                scored.gold_N[scored.in_set],
                [value_N[n] for n in scored.in_set.tolist()],
                groups,
                weights_BN,
                small_cells=small_cells,
            )
            for name, value_N in scored.subgroups().items()
        },
        "curves": curves(sample, small_cells=small_cells),
        "notes": _notes(scored, learned, small_cells),
    }
    return metrics, weights_BN


def headline(sample: Sample, weights_BN: Weights, groups: int) -> dict[str, Figure]:
    """The figures of discrimination and calibration."""
    estimate, drawn = sample.values(), sample.values(weights_BN)
    n = sample.cases
    figures: dict[str, Figure] = {}
    for name in TOP:
        figures[name] = clustered(round(float(estimate[name][0]) * n), n, drawn[name], groups)
    for name in BOOTSTRAPPED:
        figures[name] = bootstrapped(float(estimate[name][0]), drawn[name], n, groups)
    for name in ("auroc_macro", "mcc"):
        if figures[name]["value"] is None:
            figures[name]["why"] = f"undefined, all {n} cases have the same diagnosis"
    figures["prevalence_macro"] = figure(float(estimate["prevalence_macro"][0]), n, "mean prevalence")
    return figures


def _top1_all(scored: Diagnosed) -> Figure:
    labelled = np.flatnonzero(scored.status_N != UNLABELLED)
    groups = [scored.groups[n] for n in labelled.tolist()]
    return share(scored.right_if_any_N()[labelled], draws(groups), groups)


def _differential(scored: Diagnosed, weights_BN: Weights, groups: list[str]) -> dict[str, Figure]:
    cases = [scored.cases[n] for n in scored.in_set.tolist()]
    if not any(case.differential for case in cases):
        return {}

    def classes(differential: tuple[tuple[str, float], ...]) -> dict[int, float]:
        found: dict[int, float] = {}
        for place, (label, probability) in enumerate(differential):
            named = scored.space.meaning(label, None).classes
            found[named[0] if len(named) == 1 else -1 - place] = probability
        return found

    severity_K = np.full(len(scored.space.labels), np.nan)
    for case, k in zip(cases, scored.gold_N[scored.in_set].tolist(), strict=True):
        if case.subgroups.get("severity", "").isdigit():
            severity_K[k] = int(case.subgroups["severity"])
    known = np.isfinite(severity_K).any()
    having = [n for n, case in enumerate(cases) if case.differential]
    return differential_figures(
        scored.probabilities_NK[scored.in_set[having]],
        scored.gold_N[scored.in_set[having]],
        [classes(cases[n].differential) for n in having],
        severity_K if known else None,
        weights_BN[:, having],
        [groups[n] for n in having],
    )


def _labels(scored: Diagnosed) -> dict[str, Any]:
    return {
        "model": len(scored.space.labels),
        "present": len(scored.sample.classes_present),
        "mapped": sum(meaning.mapped for meaning in scored.meanings),
        "names": dict(zip(scored.space.labels, scored.space.names, strict=True)),
        "over": "classes present among the cases in set",
    }


def _out_of_set(scored: Diagnosed, learned: Learned | None, small_cells: bool) -> dict[str, Any]:
    out = np.flatnonzero(scored.status_N == OUT_OF_SET)
    several = np.flatnonzero(scored.status_N == SEVERAL)
    labelled = np.flatnonzero(scored.status_N != UNLABELLED)
    counts = Counter((scored.cases[n].label, scored.cases[n].label_name) for n in out.tolist())
    rows = [
        {"label": label, "name": name, "n": None if is_few(n) and not small_cells else n}
        for (label, name), n in sorted(counts.items(), key=lambda item: (-item[1], str(item[0])))
    ]

    def share_of(hit_N: NDArray[np.bool_], places: NDArray[np.int64]) -> Figure:
        groups = [scored.groups[n] for n in places.tolist()]
        return share(hit_N, draws(groups), groups)

    confidence_N, groups = scored.confidence_N[out], [scored.groups[n] for n in out.tolist()]
    limit = None if learned is None else learned.thresholds.risk_5
    if learned is None:
        abstained = undefined(NO_CALIBRATION)
    else:
        abstained = share_of(confidence_N < (np.inf if limit is None else limit), out)
    return {
        "cases": len(out),
        "share": share_of(scored.status_N[labelled] == OUT_OF_SET, labelled),
        "labels": rows[:MOST_UNKNOWN],
        "confidence": mean(confidence_N, draws(groups), len(set(groups))),
        "abstained": abstained,
        "several": {
            "cases": len(several),
            "top1": share_of(scored.right_if_any_N()[several], several),
        },
        "unlabelled": int((scored.status_N == UNLABELLED).sum()),
    }


def _notes(scored: Diagnosed, learned: Learned | None, small_cells: bool) -> list[str]:
    notes = []
    absent = len(scored.space.labels) - len(scored.sample.classes_present)
    if absent:
        known = len(scored.space.labels)
        notes.append(f"{absent} of the model's {known} diagnoses have no case here: macro figures run over the others.")
    known_N = scored.gold_N[scored.gold_N != NOT_A_CLASS]
    few = int((np.bincount(known_N, minlength=len(scored.space.labels)) < 10).sum()) - absent
    if few > 0:
        notes.append(f"{few} diagnoses have fewer than 10 cases: their own figures are rough.")
    out = int((scored.status_N == OUT_OF_SET).sum())
    if out:
        told = FEW if is_few(out) and not small_cells else f"{out} cases"
        notes.append(f"{told} have a diagnosis that the model does not know; top1_all counts them as wrong.")
    return notes + learned_notes(learned)
