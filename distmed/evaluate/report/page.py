"""Page: the content of metrics.json becomes what the templates show, and the templates become one HTML file.

Metrics, timings and the surest wrong answers flow in, the text of the page flows out. Every text that came with the data (names
of diseases, notes) is escaped.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from importlib import resources
from typing import Any

from distmed.evaluate.figure import SMALLEST_CELL, is_figure, limits_to_read
from distmed.evaluate.report.chart import strip
from distmed.evaluate.report.limits import limits
from distmed.evaluate.report.plots import curve_plots, place_plot
from distmed.evaluate.report.words import CHOICE, GROUPS, WAYS, word

Metrics = Mapping[str, Any]

STATS = {"diagnosis": ("top1", "top3", "balanced_accuracy", "ece"), "choice": CHOICE[:4]}
IN_MATRIX = 10
"""Diseases of the matrix of confusions; more could not be read on a page."""


def render(metrics: Metrics, speed: Mapping[str, Any] | None, errors: list[dict[str, Any]]) -> str:
    """The whole page. The same arguments give the same text: it holds no time."""
    from jinja2 import Environment, PackageLoader

    environment = Environment(
        loader=PackageLoader("distmed.evaluate.report"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "value": value_text,
        "interval": interval_text,
        "limits": limits_to_read,
        "points": points,
        "number": number,
        "count": count,
        "short": short,
        "p": p_text,
        "natural": natural,
        "method": method_text,
    }
    environment.globals |= {"strip": strip, "word": word, "ways": WAYS, "smallest": SMALLEST_CELL}
    assets = resources.files("distmed.evaluate.report") / "templates"
    kind = metrics["about"].get("kind", "diagnosis")
    choice = metrics.get("choice")
    page = environment.get_template("report.html.j2").render(
        m=metrics,
        about=metrics["about"],
        kind=kind,
        summary=summary(metrics, kind),
        stats=[(name, found) for name in STATS[kind] if (found := _headline(metrics, kind, name)) is not None],
        groups=figure_groups(metrics),
        plots=curve_plots(metrics),
        places=place_plot(choice["position_bias"]) if choice and choice.get("position_bias") else None,
        matrix=confusion_matrix(metrics),
        failed=[check for check in metrics.get("integrity", {}).get("checks", []) if not check["passed"]],
        speed=speed,
        errors=errors,
        limits=limits(metrics),
        style=(assets / "style.css").read_text(encoding="utf-8"),
        script=(assets / "table.js").read_text(encoding="utf-8"),
    )
    return page + "\n"


def summary(metrics: Metrics, kind: str) -> str:
    """What was found, in one sentence."""
    if kind == "choice":
        section = metrics["choice"]
        letter = section["letter"]
        if letter["value"] is None:
            return "No question has a known answer, so nothing could be scored."
        chance = value_text({"value": section["chance"]}, True)
        return (
            f"The model chose the right option in {value_text(letter, True)} of {number(letter['n'])} questions "
            f"({_around(letter)}); chance is {chance}."
        )
    top = metrics["top1"]
    if top["value"] is None:
        return "No case has a diagnosis that the model knows, so nothing could be scored."
    return (
        f"The model named the right diagnosis first in {value_text(top, True)} of {number(top['n'])} cases "
        f"({_around(top)})."
    )


def _around(figure: Mapping[str, Any]) -> str:
    between = interval_text(figure, True)
    return f"95\u00a0% interval {between}" if between else method_text(figure)


def figure_groups(metrics: Metrics) -> list[tuple[str, list[tuple[str, dict[str, Any]]]]]:
    """(title, [(name, figure)]) of all figures at the top of metrics.json; what has no words comes last, under its own name."""
    listed = [(title, [(name, metrics[name]) for name in names if name in metrics]) for title, names in GROUPS.items()]
    known = {name for names in GROUPS.values() for name in names}
    others = [(name, value) for name, value in metrics.items() if is_figure(value) and name not in known]
    return [(title, rows) for title, rows in [*listed, ("Other figures", others)] if rows]


def confusion_matrix(metrics: Metrics) -> dict[str, Any] | None:
    """The diseases of the worst pairs against each other: names, and cells n (None where none is told), with the diagonal."""
    pairs = metrics.get("confusion") or []
    if not pairs:
        return None
    names: dict[str, str] = {}
    for pair in pairs:
        both = {pair[f"{side}_label"]: pair[side] for side in ("gold", "predicted")}
        if len(names | both) <= IN_MATRIX:
            names |= both
    told = {(pair["gold_label"], pair["predicted_label"]): pair["n"] for pair in pairs}
    for row in metrics["per_disease"]:
        if row["sensitivity"]["value"] is not None:
            right = round(row["sensitivity"]["value"] * row["n"])
            shown = right >= SMALLEST_CELL or metrics["about"].get("small_cells")
            told[row["label"], row["label"]] = right if shown else None
    cells = [[told.get((gold, predicted)) for predicted in names] for gold in names]
    often = Counter(names.values())
    shown_names = [name if often[name] == 1 else f"{name} ({label})" for label, name in names.items()]
    return {"names": shown_names, "cells": cells, "most": max((n for row in cells for n in row if n), default=1)}


def value_text(figure: Mapping[str, Any], percent: bool = False) -> str:
    value = figure["value"]
    if value is None:
        return "—"
    return _signed(f"{100 * value:.1f}\u00a0%" if percent else f"{value:.3f}")


def interval_text(figure: Mapping[str, Any], percent: bool = False) -> str:
    low, high = limits_to_read(figure)
    if low is None or high is None:
        return ""
    between = " to " if min(low, high) < 0 else "–"
    if percent:
        return _signed(f"{100 * low:.1f}{between}{100 * high:.1f}\u00a0%")
    return _signed(f"{low:.3f}{between}{high:.3f}")


def points(difference: float) -> str:
    """A difference of two percentages, with its sign."""
    return _signed(f"{100 * difference:+.1f}")


def _signed(text: str) -> str:
    return text.replace("-", "−")


def number(value: float | None) -> str:
    """1,226; three digits of what is no whole number."""
    if value is None:
        return "—"
    return f"{round(value):,}" if float(value).is_integer() or abs(value) >= 1000 else f"{value:.3g}"


def count(patients: int | None) -> str:
    """A number of patients, of which None stands for too few to be told."""
    return f"< {SMALLEST_CELL}" if patients is None else number(patients)


def natural(groups: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Subgroups by the number that their value begins with: 2-11 before 12-17."""

    def key(group: dict[str, Any]) -> tuple[float, str]:
        digits = re.match(r"\d+", group["value"])
        return (float(digits[0]) if digits else float("inf"), group["value"])

    return sorted(groups, key=key)


def short(hash: str | None) -> str:
    return hash[:12] if hash else "—"


def method_text(figure: Mapping[str, Any]) -> str:
    """How an interval was got, short enough for a phone; how many draws it took stands once, in the limits."""
    method = figure.get("cluster_method") or figure["method"]
    return "Wilson" if method == "wilson" else re.sub(r", [\d,]+ draws", "", method)


def p_text(p: float) -> str:
    return "p < 0.001" if p < 0.001 else f"p = {p:.3f}"


def _headline(metrics: Metrics, kind: str, name: str) -> dict[str, Any] | None:
    of = metrics.get("choice", {}) if kind == "choice" else metrics
    found: dict[str, Any] | None = of.get(name)
    return found
