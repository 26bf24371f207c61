"""Bootstrap by group: whole papers, patients or sites are drawn again, since cases of one group are alike.

The group of every case flows in; how often each case is in each draw flows out. Figures are then computed for all draws at
once, as products with this matrix.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from distmed.evaluate.figure import LEVEL, Figure, figure, proportion, undefined

Floats = NDArray[np.floating]

DRAWS = 1000
SEED = 2026
FEW_GROUPS = 10


def draws(groups: Sequence[str], draws: int = DRAWS, seed: int = SEED) -> NDArray[np.float32]:
    """weights_BN: how often each case is in each draw, when as many groups as there are are drawn with replacement.

    The cluster bootstrap of Field & Welsh 2007 (doi:10.1111/j.1467-9868.2007.00593.x), "case sampling".
    """
    _, group_N = np.unique(np.asarray(groups, dtype=object).astype(str), return_inverse=True)
    count = int(group_N.max()) + 1 if len(group_N) else 0
    random = np.random.default_rng(seed)
    weights_BN = np.empty((draws, len(group_N)), dtype=np.float32)
    for draw in range(draws):
        weights_BN[draw] = np.bincount(random.integers(0, count, count), minlength=count)[group_N]
    return weights_BN


def interval(values_B: Floats) -> tuple[float, float]:
    """The percentile interval (Efron 1979); draws in which the figure is undefined do not count."""
    known = values_B[np.isfinite(values_B)]
    if not len(known):
        return float("nan"), float("nan")
    low, high = np.percentile(known, [50 * (1 - LEVEL), 50 * (1 + LEVEL)])
    return float(low), float(high)


def bootstrapped(value: float, values_B: Floats, n: int, groups: int, **more: Any) -> Figure:
    """The figure `value` with the interval of its draws; without one where a single group leaves nothing to draw.

    A draw repeats cases, which raises what measures a worst gap: where that leaves the value outside, the interval is widened.
    """
    if not np.isfinite(value):
        return undefined(f"undefined, n={n}", n, **more)
    if groups < 2:
        return figure(value, n, "no interval: one group", **more)
    low, high = interval(values_B)
    few = f", only {groups} groups" if groups < FEW_GROUPS else ""
    aside = ", widened to hold the value" if low > value or high < value else ""
    method = f"bootstrap by group, {len(values_B)} draws{few}{aside}"
    return figure(value, n, method, min(low, value), max(high, value), **more)


def clustered(hits: int, n: int, drawn_B: Floats, groups: int, **more: Any) -> Figure:
    """hits / n with Wilson's interval, and beside it the one over groups, which is to be read where cases share some.

    `cluster_method` says how the latter was got, and is None where every case is its own group. Where the cases are all hits,
    or none is, the draws do not vary: then each group counts as one case, as if all of its cases were one.
    """
    if not n:
        return undefined("undefined, n=0", **more)
    around = bootstrapped(hits / n, drawn_B, n, groups)
    if groups > 1 and hits in (0, n):
        around = proportion(groups if hits else 0, groups) | {"method": "wilson over groups, which are all alike"}
    limits = {"cluster_low": around["low"], "cluster_high": around["high"]}
    return proportion(hits, n, **limits, cluster_method=around["method"] if groups < n else None, **more)


def share(hit_N: NDArray[np.bool_], weights_BN: Floats, groups: Sequence[str], **more: Any) -> Figure:
    """The share of cases that are hits, by the draws of their groups."""
    with np.errstate(invalid="ignore"):
        drawn_B = weights_BN @ hit_N.astype(np.float32) / weights_BN.sum(axis=1)
    return clustered(int(hit_N.sum()), len(hit_N), drawn_B, len(set(groups)), **more)


def mean(values_N: Floats, weights_BN: Floats, groups: int) -> Figure:
    """The mean over cases, with its interval by the draws of their groups."""
    if not len(values_N):
        return undefined("undefined, n=0")
    drawn_B = weights_BN @ values_N.astype(np.float32) / weights_BN.sum(axis=1)
    return bootstrapped(float(values_N.mean(dtype=np.float64)), drawn_B, len(values_N), groups)
