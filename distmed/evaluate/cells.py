"""Cells: what is told of fewer than five patients, which is that there are fewer than five.

The finished content of metrics.json flows in, the same without such counts and figures flows out. A question of an exam counts
as a patient does.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from distmed.evaluate.figure import is_few, is_figure, untold

COUNTS = {
    "out_of_set": ("cases", "unlabelled"),
    "several": ("cases",),
    "conformal": ("empty",),
    "labels": ("mapped",),
    "mcnemar": ("only_this", "only_other"),
    "choice": ("unlabelled", "ties"),
}
"""By section: what counts patients and is no figure."""


def without_small_cells(metrics: Mapping[str, Any]) -> dict[str, Any]:
    """Figures over 1 to 4 patients become undefined, their counts None; nothing else changes.

    Totals stay: the cases of the whole data in `about` and `integrity`, and figures over all cases in set.
    """

    def is_total(name: str, value: Any) -> bool:
        return name in ("about", "integrity") or (is_figure(value) and value["n"] == metrics["top1"]["n"])

    return {name: value if is_total(name, value) else _told(name, value) for name, value in metrics.items()}


def _told(name: str | int, value: Any) -> Any:
    if isinstance(value, list):
        return [_told(name, inner) for inner in value]
    if not isinstance(value, Mapping):
        return value
    if is_figure(value):
        return untold() if value["n"] is not None and is_few(value["n"]) else value
    if name == "figures":  # of a comparison, over all cases in set
        return value
    # Figures of `choice` are over all questions that can be scored, but for those with options that can change places.
    told = dict(value) if name == "choice" else {key: _told(key, inner) for key, inner in value.items()}
    for key in COUNTS.get(str(name), ()):
        if key in told and is_few(told[key]):
            told[key] = None
    if name == "out_of_set" and told["cases"] is None:
        told["share"] = untold()
    if name == "choice" and (bias := told.get("position_bias")):
        told["position_bias"] = _order_told(bias, told["n"])
    if name == "sizes":
        return {size: None if is_few(count) else count for size, count in told.items()}
    if "flips" in told and is_few(told["n"]):
        told |= dict.fromkeys(("n", "before", "after"))
    return told


def _order_told(bias: Mapping[str, Any], questions: int) -> dict[str, Any] | None:
    if is_few(bias["n"]) and bias["n"] != questions:
        return None
    places = [
        untold(place=row["place"], chosen=None) if is_few(row["n"]) and row["n"] != questions else row
        for row in bias["accuracy_by_place"]
    ]
    return {**bias, "accuracy_by_place": places}
