"""Subgroups: the same figures for women and men, for bands of age, for any column; and how far the groups lie apart.

A Sample and a column of values flow in; figures by group and the largest gaps, with intervals, flow out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from distmed.evaluate.bootstrap import bootstrapped, clustered
from distmed.evaluate.figure import Figure, is_few, undefined, untold
from distmed.evaluate.sample import Sample, nan_mean

# N: cases, B: draws, G: groups.
Floats = NDArray[np.floating]

MEASURES = {"top1": "top1", "sensitivity": "balanced_accuracy", "ece": "ece"}
UNKNOWN = "unknown"
Estimate = tuple[str, float, Floats]
"""(group, its figure, the figure in every draw)."""


def subgroup_columns(of_N: Sequence[Mapping[str, str]]) -> dict[str, list[str]]:
    """A column (sex, age band, …) for each subgroup that any of N cases has."""
    names = sorted({name for own in of_N for name in own})
    return {name: [own.get(name, UNKNOWN) for own in of_N] for name in names}


def subgroup_figures(
    probabilities_NK: Floats,
    gold_N: NDArray[np.integer],
    value_N: Sequence[str],
    clusters: Sequence[str],
    weights_BN: Floats,
    *,
    small_cells: bool,
) -> dict[str, Any]:
    """Figures of each value of one column, and the largest gap between two of them.

    A gap is largest minus smallest over the groups that are shown, as fairlearn's MetricFrame.difference; a largest difference
    is above 0 even where the groups do not differ, so read its interval beside the groups' own. That of sensitivity is over
    the classes that all of these groups have: a mean over other diseases would be another figure.
    """
    values = np.array(value_N, dtype=object)
    groups: list[dict[str, Any]] = []
    estimates: dict[str, list[Estimate]] = {name: [] for name in MEASURES}
    recalls: list[tuple[str, Floats, Floats]] = []
    # A subgroup that is one paper or patient never varies over the draws: the fewest of any decide on the interval.
    fewest = len(set(clusters))
    for value in sorted(set(values.tolist())):
        member = np.flatnonzero(values == value)
        if is_few(len(member)) and not small_cells:
            hidden = {name: untold() for name in MEASURES}
            groups.append({"value": value, "n": None, "suppressed": True, **hidden})
            continue
        sample = Sample(probabilities_NK[member], gold_N[member])
        own = len({clusters[i] for i in member.tolist()})
        fewest = fewest if value == UNKNOWN else min(fewest, own)
        row, drawn = _figures(sample, weights_BN[:, member], own)
        groups.append({"value": value, "n": len(member), "suppressed": False, **row})
        if value != UNKNOWN:
            for name, (estimate, values_B) in drawn.items():
                estimates[name].append((value, estimate, values_B))
            recalls.append((value, _recall(sample), _recall(sample, weights_BN[:, member])))
    estimates["sensitivity"] = _over_shared(recalls)
    gaps = {f"gap_{name}": _gap(found, len(values), fewest) for name, found in estimates.items()}
    return {"groups": groups, **gaps}


def subgroup_accuracy(
    correct_N: NDArray[np.bool_],
    value_N: Sequence[str],
    clusters: Sequence[str],
    weights_BN: Floats,
    *,
    small_cells: bool,
) -> dict[str, Any]:
    """The same for answers that are only right or wrong: a sample of two classes has the same top-1."""
    two_N2 = np.stack([correct_N, ~correct_N], axis=1).astype(np.float32)
    gold_N = np.zeros(len(correct_N), dtype=np.int64)
    found = subgroup_figures(two_N2, gold_N, value_N, clusters, weights_BN, small_cells=small_cells)
    for row in [*found["groups"], found]:
        for name in ("sensitivity", "ece", "gap_sensitivity", "gap_ece"):
            if name in row and not row.get("suppressed"):
                row[name] = undefined("not computed for exam questions")
    return found


def _figures(
    sample: Sample, weights_BN: Floats, clusters: int
) -> tuple[dict[str, Figure], dict[str, tuple[float, Floats]]]:
    estimate, draws = sample.without_ranks(), sample.without_ranks(weights_BN)
    drawn = {name: (float(estimate[of][0]), draws[of]) for name, of in MEASURES.items()}
    row = {name: bootstrapped(value, values_B, sample.cases, clusters) for name, (value, values_B) in drawn.items()}
    return row | {"top1": clustered(int(sample.correct_N.sum()), sample.cases, drawn["top1"][1], clusters)}, drawn


def _recall(sample: Sample, weights_BN: Floats | None = None) -> Floats:
    """Sensitivity of each class in every draw; NaN for one that has no case."""
    gold_BK, _, right_BK = sample.counts(weights_BN)
    with np.errstate(invalid="ignore"):
        return (right_BK / gold_BK).astype(np.float32)


def _over_shared(recalls: list[tuple[str, Floats, Floats]]) -> list[Estimate]:
    """Mean sensitivity of each group over the classes that all groups have, in every draw over those that all have there."""
    if not recalls:
        return []
    shared_1K, shared_BK = (np.all([np.isfinite(row[of]) for row in recalls], axis=0) for of in (1, 2))
    with np.errstate(invalid="ignore"):
        return [
            (
                value,
                float(nan_mean(np.where(shared_1K, once_1K, np.nan))[0]),
                nan_mean(np.where(shared_BK, recall_BK, np.nan)),
            )
            for value, once_1K, recall_BK in recalls
        ]


def _gap(found: list[Estimate], n: int, clusters: int) -> Figure:
    if len(found) < 2:
        return undefined("fewer than two groups to compare", n, between=[])
    estimate_G = np.array([estimate for _, estimate, _ in found])
    if not np.isfinite(estimate_G).all():
        return undefined("undefined, no diagnosis has cases in all groups", n, between=[])
    values_GB = np.stack([values_B for _, _, values_B in found])
    gap_B = values_GB.max(axis=0) - values_GB.min(axis=0)
    between = [found[int(estimate_G.argmax())][0], found[int(estimate_G.argmin())][0]]
    return bootstrapped(float(np.ptp(estimate_G)), gap_B, n, clusters, between=between)
