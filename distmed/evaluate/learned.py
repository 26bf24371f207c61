"""Learned: what a calibration split teaches (a temperature, thresholds of confidence), and the figures that come of it.

The scored cases of both splits flow in, figures and sections of metrics.json flow out. Nothing is learned from the cases that
are reported on.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from distmed.errors import UserError
from distmed.evaluate.abstention import ALPHA, COVERAGES, Thresholds, conformal_sets, fit_thresholds
from distmed.evaluate.bootstrap import bootstrapped, mean, share
from distmed.evaluate.calibration import BOUNDS, fit_temperature, reliability, scale, without_few
from distmed.evaluate.diagnosed import Diagnosed
from distmed.evaluate.figure import Figure, undefined
from distmed.evaluate.metrics import ECE_BINS
from distmed.evaluate.sample import Sample

# N: cases in set, K: labels, B: draws.
Metrics = dict[str, Any]
Weights = NDArray[np.float32]

SCALED = ("nll", "brier", "ece", "ece_mass", "mce")
NO_CALIBRATION = "needs --calibration: never learned from the cases it is reported on"
FEW_FOR_CALIBRATION = 50


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


def after_temperature(
    scored: Diagnosed, learned: Learned | None, weights_BN: Weights, groups: int
) -> dict[str, Figure]:
    """The figures of calibration once more, with the learned temperature."""
    if learned is None:
        return {f"{name}_scaled": undefined(NO_CALIBRATION) for name in SCALED}
    sample = _scaled(scored, learned)
    estimate, drawn = sample.without_ranks(), sample.without_ranks(weights_BN)
    return {
        f"{name}_scaled": bootstrapped(float(estimate[name][0]), drawn[name], sample.cases, groups) for name in SCALED
    }


def abstention(scored: Diagnosed, learned: Learned | None, weights_BN: Weights, groups: Sequence[str]) -> Metrics:
    """Answers above the learned thresholds, and conformal sets. `groups`: those of the cases in set."""
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
    group_N, everyone_N = np.asarray(groups, dtype=object), np.ones(n, bool)

    def share_of(hit_N: NDArray[np.bool_], of_N: NDArray[np.bool_]) -> Figure:
        weights = weights_BN if of_N.all() else weights_BN[:, of_N]
        return share(hit_N[of_N], weights, group_N[of_N].tolist())

    for coverage, limit in zip(COVERAGES, (limits.coverage_80, limits.coverage_90), strict=True):
        answered_N = confidence_N >= limit
        figures[f"accuracy_at_{coverage}"] = share_of(correct_N, answered_N)
        figures[f"coverage_realized_{coverage}"] = share_of(answered_N, everyone_N)
    answered_N = np.zeros(n, bool) if limits.risk_5 is None else confidence_N >= limits.risk_5
    figures["coverage_at_5_risk"] = share_of(answered_N, everyone_N)
    figures["risk_at_5_risk"] = share_of(~correct_N, answered_N)
    sets_NK = conformal_sets(probabilities_NK, limits.quantile)
    size_N = sets_NK.sum(axis=1)
    figures["conformal_coverage"] = share_of(sets_NK[np.arange(n), gold_N], everyone_N)
    figures["conformal_size"] = mean(size_N, weights_BN, len(set(groups)))
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


def calibration(scored: Diagnosed, learned: Learned | None, small_cells: bool) -> dict[str, Any]:
    """The section `calibration`: the temperature, and bins of confidence before and after it."""
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


def learned_notes(learned: Learned | None) -> list[str]:
    """What a reader must know of the calibration split."""
    if learned is None:
        return ["No calibration split was given: no temperature, no thresholds of abstention, no conformal sets."]
    notes = []
    if learned.thresholds.fitted_on < FEW_FOR_CALIBRATION:
        notes.append(f"The calibration split has only {learned.thresholds.fitted_on} cases: its thresholds are rough.")
    if learned.temperature in BOUNDS:
        notes.append(
            f"The temperature is at {learned.temperature:g}, a bound of its search: the calibration split does not settle it "
            "(its answers are all right, or no better than chance), so scaled figures and confidences mean little."
        )
    return notes


def _scaled(scored: Diagnosed, learned: Learned) -> Sample:
    known = scored.in_set
    return Sample(scale(scored.probabilities_NK[known], learned.temperature), scored.gold_N[known])
