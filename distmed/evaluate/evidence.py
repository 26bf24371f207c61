"""Evidence: every figure of a model over its cases, with n, interval and method; the content of metrics.json.

Scored cases (and those of a calibration split) flow in, figures and sections by name flow out. Figures are over the cases whose
diagnosis is one class of the model; the others are counted and scored apart.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from distmed.errors import UserError
from distmed.evaluate.abstention import ALPHA, COVERAGES, Thresholds, conformal_sets, fit_thresholds
from distmed.evaluate.bootstrap import bootstrapped, draws, interval, mean
from distmed.evaluate.calibration import fit_temperature, reliability, scale, without_few
from distmed.evaluate.curves import curves
from distmed.evaluate.diagnosed import OUT_OF_SET, SEVERAL, UNLABELLED, Diagnosed
from distmed.evaluate.differential import differential_figures
from distmed.evaluate.diseases import confusion, per_disease
from distmed.evaluate.figure import FEW, Figure, figure, is_few, proportion, undefined
from distmed.evaluate.metrics import ECE_BINS, NOT_A_CLASS
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
SCALED = ("nll", "brier", "ece", "ece_mass", "mce")
NO_CALIBRATION = "needs --calibration: never learned from the cases it is reported on"
FEW_FOR_CALIBRATION = 50
MOST_UNKNOWN = 50


@dataclass(frozen=True)
class Learned:
    """What a calibration split taught: a temperature, and thresholds of confidence."""

    temperature: float
    thresholds: Thresholds

    @classmethod
    def of(cls, calibration: Diagnosed) -> Learned:
        """Raises UserError where the split has no case that the model knows."""
        if not len(calibration.in_set):
            raise UserError(
                "no case of the calibration split has a diagnosis that the model knows", "name another --calibration"
            )
        known = calibration.in_set
        probabilities_NK, gold_N = calibration.probabilities_NK[known], calibration.gold_N[known]
        true_N = probabilities_NK[np.arange(len(known)), gold_N]
        correct_N = probabilities_NK.argmax(axis=1) == gold_N
        return cls(
            fit_temperature(probabilities_NK, gold_N),
            fit_thresholds(probabilities_NK.max(axis=1), correct_N, true_N),
        )


def evidence(scored: Diagnosed, learned: Learned | None, *, small_cells: bool) -> tuple[Metrics, Weights]:
    """The figures and sections that one model and its cases give, and the draws, for what is compared with it later."""
    groups = [scored.groups[n] for n in scored.in_set.tolist()]
    weights_BN = draws(groups)
    count = len(set(groups))
    sample = scored.sample
    metrics: Metrics = dict(headline(sample, weights_BN, count))
    metrics |= _after_temperature(scored, learned, weights_BN, count)
    metrics |= _abstention(scored, learned, weights_BN, count)
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
        "calibration": _calibration(scored, learned, small_cells),
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
        "curves": curves(sample),
        "notes": _notes(scored, learned, small_cells),
    }
    return metrics, weights_BN


def headline(sample: Sample, weights_BN: Weights, groups: int) -> dict[str, Figure]:
    """The figures of discrimination and calibration."""
    estimate, drawn = sample.values(), sample.values(weights_BN)
    n = sample.cases
    figures: dict[str, Figure] = {}
    for name in TOP:
        low, high = interval(drawn[name]) if groups > 1 else (None, None)
        hits = round(float(estimate[name][0]) * n)
        figures[name] = proportion(hits, n, cluster_low=low, cluster_high=high)
    for name in BOOTSTRAPPED:
        figures[name] = bootstrapped(float(estimate[name][0]), drawn[name], n, groups)
    if figures["auroc_macro"]["value"] is None:
        figures["auroc_macro"]["why"] = f"undefined, all {n} cases have the same diagnosis"
    figures["prevalence_macro"] = figure(float(estimate["prevalence_macro"][0]), n, "mean prevalence")
    return figures


def _after_temperature(
    scored: Diagnosed, learned: Learned | None, weights_BN: Weights, groups: int
) -> dict[str, Figure]:
    if learned is None:
        return {f"{name}_scaled": undefined(NO_CALIBRATION) for name in SCALED}
    sample = _scaled(scored, learned)
    estimate, drawn = sample.without_ranks(), sample.without_ranks(weights_BN)
    return {
        f"{name}_scaled": bootstrapped(float(estimate[name][0]), drawn[name], sample.cases, groups) for name in SCALED
    }


def _scaled(scored: Diagnosed, learned: Learned) -> Sample:
    known = scored.in_set
    return Sample(scale(scored.probabilities_NK[known], learned.temperature), scored.gold_N[known])


def _abstention(scored: Diagnosed, learned: Learned | None, weights_BN: Weights, groups: int) -> Metrics:
    names = [f"{what}_{c}" for c in COVERAGES for what in ("accuracy_at", "coverage_realized")]
    names += ["coverage_at_5_risk", "risk_at_5_risk", "conformal_coverage", "conformal_size"]
    if learned is None:
        return {
            **{name: undefined(NO_CALIBRATION) for name in names},
            "abstention": {"thresholds": None, "fitted_on": 0},
        }
    limits = learned.thresholds
    probabilities_NK, gold_N = scored.probabilities_NK[scored.in_set], scored.gold_N[scored.in_set]
    confidence_N, correct_N = probabilities_NK.max(axis=1), probabilities_NK.argmax(axis=1) == gold_N
    n = len(gold_N)
    figures: Metrics = {}
    for coverage, limit in zip(COVERAGES, (limits.coverage_80, limits.coverage_90), strict=True):
        answered_N = confidence_N >= limit
        figures[f"accuracy_at_{coverage}"] = proportion(int(correct_N[answered_N].sum()), int(answered_N.sum()))
        figures[f"coverage_realized_{coverage}"] = proportion(int(answered_N.sum()), n)
    answered_N = np.zeros(n, bool) if limits.risk_5 is None else confidence_N >= limits.risk_5
    figures["coverage_at_5_risk"] = proportion(int(answered_N.sum()), n)
    figures["risk_at_5_risk"] = proportion(int((~correct_N[answered_N]).sum()), int(answered_N.sum()))
    sets_NK = conformal_sets(probabilities_NK, limits.quantile)
    size_N = sets_NK.sum(axis=1)
    figures["conformal_coverage"] = proportion(int(sets_NK[np.arange(n), gold_N].sum()), n)
    figures["conformal_size"] = mean(size_N, weights_BN, groups)
    values = limits.to_dict()
    return {
        **figures,
        "abstention": {
            "thresholds": {"80": values["coverage_80"], "90": values["coverage_90"], "risk_5": values["risk_5"]},
            "fitted_on": limits.fitted_on,
        },
        "conformal": {
            "alpha": ALPHA,
            "quantile": values["quantile"],
            "empty": int((size_N == 0).sum()),
            "fitted_on": limits.fitted_on,
            "sizes": {str(size): count for size, count in sorted(Counter(size_N.tolist()).items())},
        },
    }


def _top1_all(scored: Diagnosed) -> Figure:
    labelled_N = scored.status_N != UNLABELLED
    return proportion(int(scored.right_if_any_N()[labelled_N].sum()), int(labelled_N.sum()))


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
    labelled = int((scored.status_N != UNLABELLED).sum())
    counts = Counter((scored.cases[n].label, scored.cases[n].label_name) for n in out.tolist())
    rows = [
        {"label": label, "name": name, "n": None if is_few(n) and not small_cells else n}
        for (label, name), n in sorted(counts.items(), key=lambda item: (-item[1], str(item[0])))
    ]
    confidence_N, groups = scored.confidence_N[out], [scored.groups[n] for n in out.tolist()]
    limit = None if learned is None else learned.thresholds.risk_5
    if learned is None:
        abstained = undefined(NO_CALIBRATION)
    else:
        abstained = proportion(int((confidence_N < limit).sum()) if limit is not None else len(out), len(out))
    return {
        "cases": len(out),
        "share": proportion(len(out), labelled),
        "labels": rows[:MOST_UNKNOWN],
        "confidence": mean(confidence_N, draws(groups), len(set(groups))),
        "abstained": abstained,
        "several": {
            "cases": len(several),
            "top1": proportion(int(scored.right_if_any_N()[several].sum()), len(several)),
        },
        "unlabelled": int((scored.status_N == UNLABELLED).sum()),
    }


def _calibration(scored: Diagnosed, learned: Learned | None, small_cells: bool) -> dict[str, Any]:
    after = None if learned is None else _scaled(scored, learned)

    def bins(sample: Sample, *, by_mass: bool = False) -> list[dict[str, Any]]:
        every = reliability(sample, by_mass=by_mass)
        return every if small_cells else without_few(every)

    return {
        "temperature": None if learned is None else learned.temperature,
        "fitted_on": 0 if learned is None else learned.thresholds.fitted_on,
        "bins": ECE_BINS,
        "before": bins(scored.sample),
        "before_mass": bins(scored.sample, by_mass=True),
        "after": None if after is None else bins(after),
        "after_mass": None if after is None else bins(after, by_mass=True),
    }


def _notes(scored: Diagnosed, learned: Learned | None, small_cells: bool) -> list[str]:
    notes = []
    absent = len(scored.space.labels) - len(scored.sample.classes_present)
    if absent:
        known = len(scored.space.labels)
        notes.append(f"{absent} of the model's {known} diagnoses have no case here: macro figures run over the others.")
    few = int((np.bincount(scored.gold_N[scored.gold_N != NOT_A_CLASS]) < 10).sum()) - absent
    if few > 0:
        notes.append(f"{few} diagnoses have fewer than 10 cases: their own figures are rough.")
    out = int((scored.status_N == OUT_OF_SET).sum())
    if out:
        told = FEW if is_few(out) and not small_cells else f"{out} cases"
        notes.append(f"{told} have a diagnosis that the model does not know; top1_all counts them as wrong.")
    if learned is None:
        notes.append("No calibration split was given: no temperature, no thresholds of abstention, no conformal sets.")
    elif learned.thresholds.fitted_on < FEW_FOR_CALIBRATION:
        notes.append(f"The calibration split has only {learned.thresholds.fitted_on} cases: its thresholds are rough.")
    return notes
