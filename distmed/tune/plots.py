"""The pictures of a search, each one SVG in a string: history, curves, parallel coordinates, importance, slices, cost.

Trials and their evaluations flow in; nothing here reads a file.
"""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from distmed.credentials import without_credentials
from distmed.tune.record import Trial
from distmed.tune.space import Space

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

BLUE, GREY, RED, GREEN = "#2563a8", "#b4b9c0", "#b3352b", "#2f7d4f"
LOOKS = {"done": BLUE, "stopped": GREY, "failed": RED, "running": GREEN, "waiting": GREEN}
WIDTH = 9.0


def history(trials: Sequence[Trial], *, mode: str, metric: str) -> str:
    """Each trial's best value in the order of their starts, and the best so far."""
    figure, axes = _figure(3.2)
    best: float | None = None
    line: list[tuple[int, float]] = []
    for trial in trials:
        found = trial.best(mode)
        if found is None:
            continue
        axes.plot(trial.number, found.value, "o", color=LOOKS[trial.state], ms=5)
        best = found.value if best is None else (min if mode == "min" else max)(best, found.value)
        line.append((trial.number, best))
    axes.step([x for x, _ in line], [y for _, y in line], where="post", color="black", lw=1.2, label="best so far")
    _label(axes, "trial", metric)
    axes.legend(frameon=False)
    return _svg(figure)


def curves(trials: Sequence[Trial], *, metric: str) -> str:
    """Learning curves; those of stopped trials are grey."""
    figure, axes = _figure(3.6)
    for trial in sorted(trials, key=lambda trial: trial.state != "stopped"):
        points = [(each.step, each.value) for each in trial.evaluations if math.isfinite(each.value)]
        if points:
            color = "black" if trial.point == 0 else LOOKS[trial.state]
            axes.plot(*zip(*points, strict=True), "-o", ms=2.5, lw=1.1, color=color)
    axes.plot([], [], color="black", label="the recipe as it was")
    axes.plot([], [], color=BLUE, label="to the end")
    axes.plot([], [], color=GREY, label="stopped")
    _label(axes, "step", metric)
    axes.legend(frameon=False)
    return _svg(figure)


def parallel(space: Space, trials: Sequence[Trial], *, mode: str, metric: str) -> str:
    """A line a trial through its knobs to its best value; the better the darker."""
    import matplotlib.pyplot as plt

    scored = [(trial, found.value) for trial in trials if (found := trial.best(mode)) is not None]
    figure, axes = _figure(3.8)
    if not scored:
        return _svg(figure)
    values = [value for _, value in scored]
    low, high = min(values), max(values)
    span = (high - low) or 1.0
    scored.sort(key=lambda each: each[1], reverse=mode == "min")
    for trial, value in scored:
        good = (value - low) / span if mode == "max" else (high - value) / span
        heights = [_height(space, key, trial.setting[key]) if key in trial.setting else math.nan for key in space.order]
        color = plt.get_cmap("viridis_r")(good)
        axes.plot(range(len(heights) + 1), [*heights, (value - low) / span], color=color, lw=1.2, alpha=0.85)
    names = [*(_wrapped(key, space) for key in space.order), f"{metric}\n{low:.3f} … {high:.3f}"]
    axes.set_xticks(range(len(names)), names, fontsize=8)
    axes.set_yticks([])
    for place in range(len(names)):
        axes.axvline(place, color=GREY, lw=0.6, zorder=0)
    return _svg(figure)


def bars(importance: dict[str, float]) -> str:
    """The importance of each knob."""
    names = list(importance)[::-1]
    figure, axes = _figure(0.8 + 0.35 * len(names))
    axes.barh(names, [importance[name] for name in names], color=BLUE, height=0.6)
    axes.set_xlim(0, 1)
    _label(axes, "share of the variance explained", "")
    return _svg(figure)


def slices(space: Space, trials: Sequence[Trial], *, mode: str, metric: str) -> str:
    """The best value of each trial over one knob at a time."""
    import matplotlib.pyplot as plt

    columns = min(3, len(space.order))
    lines = -(-len(space.order) // columns)
    figure, grid = plt.subplots(lines, columns, figsize=(WIDTH, 2.6 * lines), squeeze=False, sharey=True)
    for place, axes in enumerate(grid.flat):
        if place >= len(space.order):
            axes.set_visible(False)
            continue
        key = space.order[place]
        knob = space.knobs[key]
        for trial in trials:
            found = trial.best(mode)
            value = trial.setting.get(key)
            if found is not None and key in trial.setting and (knob.choice is not None or value is not None):
                across = str(without_credentials(value)) if knob.choice is not None else value
                axes.plot(across, found.value, "o", color=LOOKS[trial.state], ms=4, alpha=0.8)
        if knob.loguniform:
            axes.set_xscale("log")
            # Powers of ten may be none or, with what lies between them, too many for the room.
            axes.set_xticks(knob.loguniform, [f"{end:g}" for end in knob.loguniform])
            axes.minorticks_off()
        _label(axes, key, metric if place % columns == 0 else "")
    return _svg(figure)


def cost(trials: Sequence[Trial]) -> str:
    """Seconds of each trial, by how it ended."""
    figure, axes = _figure(2.8)
    axes.bar(
        [trial.number for trial in trials],
        [trial.seconds for trial in trials],
        color=[LOOKS[trial.state] for trial in trials],
        width=0.7,
    )
    _label(axes, "trial", "seconds with workers")
    return _svg(figure)


def _height(space: Space, key: str, value: Any) -> float:
    """Where a value lies between the ends of its knob, 0 to 1; a number that the recipe leaves null is nowhere."""
    knob = space.knobs[key]
    if knob.choice is not None:
        return knob.choice.index(value) / max(1, len(knob.choice) - 1) if value in knob.choice else math.nan
    if value is None:
        return math.nan
    low, high = knob.uniform or knob.loguniform or knob.randint or (0, 1)
    if knob.loguniform:
        return (math.log(value) - math.log(low)) / (math.log(high) - math.log(low)) if value > 0 else math.nan
    return (value - low) / (high - low)


def _wrapped(key: str, space: Space) -> str:
    knob = space.knobs[key]
    bounds = knob.uniform or knob.loguniform or knob.randint
    choices = ", ".join(map(str, without_credentials(knob.choice or [])))[:24]
    ends = f"{bounds[0]:.3g} … {bounds[1]:.3g}" if bounds else choices
    return f"{key.replace('.', '.' + chr(10), 1)}\n{ends}"


def _figure(height: float) -> tuple[Figure, Axes]:
    import matplotlib.pyplot as plt

    return plt.subplots(figsize=(WIDTH, height))


def _label(axes: Axes, across: str, up: str) -> None:
    axes.set_xlabel(across)
    axes.set_ylabel(up)
    axes.spines[["top", "right"]].set_visible(False)


def _svg(figure: Figure) -> str:
    import matplotlib.pyplot as plt

    figure.tight_layout()
    text = io.StringIO()
    figure.savefig(text, format="svg")
    plt.close(figure)
    return text.getvalue()[text.getvalue().index("<svg") :]
