"""Figure: a number of the evidence with its sample size, its interval and how both were got.

Counts and estimates flow in, plain dicts as they stand in metrics.json flow out. What cannot be computed is a figure too, with
the reason in place of a value.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from typing import Any

Figure = dict[str, Any]

SMALLEST_CELL = 5
"""Cells with fewer patients are not shown unless asked for."""
FEW = f"fewer than {SMALLEST_CELL} patients"
LEVEL = 0.95


def figure(
    value: float, n: int, method: str, low: float | None = None, high: float | None = None, **more: Any
) -> Figure:
    """A number over `n` cases; `method` says where the interval [low, high] comes from, or what was computed."""
    if not math.isfinite(value):
        return undefined("not finite", n)
    return {"value": float(value), "low": _plain(low), "high": _plain(high), "n": int(n), "method": method, **more}


def is_few(cases: int) -> bool:
    """Whether these are too few patients to be told of."""
    return 0 < cases < SMALLEST_CELL


def is_figure(value: Any) -> bool:
    """Whether this part of metrics.json is one."""
    return isinstance(value, Mapping) and {"value", "n", "method"} <= set(value)


def undefined(why: str, n: int = 0, **more: Any) -> Figure:
    """A figure that these cases cannot give, and why: never 0, which would read as a result."""
    return {"value": None, "low": None, "high": None, "n": int(n), "method": "", "why": why, **more}


def untold(**more: Any) -> Figure:
    """A figure over fewer than five patients, of which nothing else is told."""
    return {**undefined(FEW), "n": None, **more}


def proportion(hits: int, n: int, **more: Any) -> Figure:
    """hits / n with the Wilson interval (Wilson 1927), by statsmodels."""
    from statsmodels.stats.proportion import proportion_confint

    if not n:
        return undefined("undefined, n=0", **more)
    low, high = proportion_confint(int(hits), int(n), alpha=1 - LEVEL, method="wilson")
    # It misses 0 and 1 by rounding.
    return figure(hits / n, n, "wilson", low if hits else 0.0, high if hits < n else 1.0, **more)


def limits_to_read(figure: Mapping[str, Any]) -> tuple[float | None, float | None]:
    """The interval to read: that over groups where cases share some, which Wilson's takes as independent."""
    of = ("cluster_low", "cluster_high") if figure.get("cluster_method") else ("low", "high")
    low, high = (figure.get(name) for name in of)
    return low, high


def hashed(case_id: str) -> str:
    """What a report and W&B show in place of a case's id, which may name a patient."""
    return hashlib.blake2b(case_id.encode(), digest_size=5).hexdigest()


def _plain(value: float | None) -> float | None:
    return float(value) if value is not None and math.isfinite(value) else None
