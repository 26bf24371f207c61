"""Plots: the curves of metrics.json as figures with a legend and a sentence on how to read them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from markupsafe import Markup

from distmed.evaluate.figure import SMALLEST_CELL, limits_to_read
from distmed.evaluate.report.chart import Frame, Series, chart, columns, nice_top

DIAGONAL = ([0.0, 1.0], [0.0, 1.0])


class Plot(NamedTuple):
    """`legend`: (style, name) of each line."""

    title: str
    svg: Markup
    legend: list[tuple[str, str]]
    reads: str


def curve_plots(metrics: Mapping[str, Any]) -> list[Plot]:
    """ROC, precision–recall, reliability and risk–coverage, as far as they could be computed."""
    curves = metrics.get("curves", {})
    found = []
    if "roc" in curves:
        found.append(_roc(curves["roc"]))
    if "pr" in curves:
        found.append(_pr(curves["pr"]))
    if metrics.get("calibration", {}).get("before"):
        found.append(_reliability(metrics["calibration"]))
    if curves.get("risk_coverage", {}).get("x"):
        found.append(_risk_coverage(curves["risk_coverage"]))
    return found


def place_plot(bias: Mapping[str, Any]) -> Plot:
    """Accuracy by the place of the right option."""
    places = [place for place in bias["accuracy_by_place"] if place["value"] is not None]
    values = [(place["value"], *limits_to_read(place)) for place in places]
    tops = [value if high is None else high for value, _, high in values]
    mean = sum(place["value"] for place in places) / len(places)
    frame = Frame(
        "Accuracy by place of the right option", "place of the right option", "accuracy", 1, nice_top(max(tops))
    )
    return Plot(
        "Does the place of an option decide?",
        columns(frame, [place["place"] for place in places], values, mean),
        [("column", "accuracy, right option at this place"), ("chance", "mean over places")],
        "Each question is asked with its options in every rotation. A model that reads the options has bars of one height.",
    )


def _roc(roc: Mapping[str, Any]) -> Plot:
    frame = Frame("ROC curve", "1 − specificity", "sensitivity")
    lines = [_line("mean over diseases", "one", roc["macro"]), _line("all decisions pooled", "two", roc["micro"])]
    return Plot(
        "ROC curve",
        chart(frame, [Series("chance", "chance", *DIAGONAL), *lines]),
        [("one", _area(lines[0], roc["macro"])), ("two", _area(lines[1], roc["micro"])), ("chance", "chance")],
        "Each disease against all others. The nearer to the upper left corner, the better; the diagonal is chance.",
    )


def _pr(pr: Mapping[str, Any]) -> Plot:
    frame = Frame("Precision–recall curve", "sensitivity (recall)", "predictive value (precision)")
    chance = pr["macro"].get("chance") or 0.0
    lines = [_line("mean over diseases", "one", pr["macro"]), _line("all decisions pooled", "two", pr["micro"])]
    return Plot(
        "Precision–recall curve",
        chart(frame, [Series("chance", "chance", [0.0, 1.0], [chance, chance]), *lines]),
        [
            ("one", _area(lines[0], pr["macro"])),
            ("two", _area(lines[1], pr["micro"])),
            ("chance", f"chance, {chance:.3f}"),
        ],
        "How many positive answers are right at each sensitivity. It shows what ROC hides where a disease is rare.",
    )


def _reliability(calibration: Mapping[str, Any]) -> Plot:
    frame = Frame("Reliability diagram", "stated confidence", "accuracy")
    before, after = calibration["before"], calibration.get("after")
    most = max((row["n"] or 0 for row in before), default=0) or 1
    few = sum(bool(row.get("few")) for row in before)
    hidden = f" Bins with fewer than {SMALLEST_CELL} patients ({few}) are not shown." if few else ""
    bars = [(row["low"], row["high"], row["n"] / most) for row in before if row["n"]]
    series = [Series("perfect", "chance", *DIAGONAL), _bins("as it is", "one", before)]
    legend = [("one", "as it is")]
    if after:
        series.append(_bins("after temperature scaling", "two", after))
        legend.append(("two", f"after temperature scaling (T = {calibration['temperature']:.2f})"))
    return Plot(
        "Reliability diagram",
        chart(frame, series, bars),
        [*legend, ("chance", "perfect calibration"), ("bar", "cases in the bin")],
        "Below the diagonal the model is too sure, above it not sure enough. Bars at the bottom: cases behind each point."
        + hidden,
    )


def _risk_coverage(curve: Mapping[str, Any]) -> Plot:
    top = nice_top(max(curve["y"]))
    frame = Frame("Risk–coverage curve", "share of cases answered", "error among those answered", y_max=top)
    line = _line("surest cases first", "one", curve)
    return Plot(
        "Risk–coverage curve",
        chart(frame, [line]),
        [("one", _area(line, curve))],
        "The error if only the surest cases are answered. A curve that starts low and rises means its confidence can be used.",
    )


def _line(name: str, style: str, curve: Mapping[str, Sequence[float]]) -> Series:
    return Series(name, style, curve["x"], curve["y"])


def _bins(name: str, style: str, bins: Sequence[Mapping[str, Any]]) -> Series:
    filled = [row for row in bins if row["n"]]
    return Series(name, style, [row["confidence"] for row in filled], [row["accuracy"] for row in filled], dots=True)


def _area(line: Series, curve: Mapping[str, Any]) -> str:
    return f"{line.name}, area {curve['area']:.3f}"
