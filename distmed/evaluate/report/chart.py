"""Charts: small figures drawn as SVG, so that they are sharp, take the page's colors and need nothing from elsewhere.

Points flow in, markup flows out. Drawn for a width of 340 pixels, so that on a phone their text keeps its size.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup, escape

WIDTH, HEIGHT = 340, 260
LEFT, RIGHT, TOP, BOTTOM = 44, 10, 10, 40
STRIP_WIDTH, STRIP_HEIGHT = 150, 14

Interval = tuple[float, float | None, float | None]
"""(value, low, high)."""


@dataclass(frozen=True)
class Series:
    """A line or dots; `style` is a class of style.css (one, two, chance)."""

    name: str
    style: str
    x: Sequence[float]
    y: Sequence[float]
    dots: bool = False


@dataclass(frozen=True)
class Frame:
    """Axes from 0 to `x_max` and `y_max`."""

    title: str
    x_label: str
    y_label: str
    x_max: float = 1.0
    y_max: float = 1.0

    def x(self, value: float) -> float:
        return round(LEFT + (WIDTH - LEFT - RIGHT) * value / self.x_max, 1)

    def y(self, value: float) -> float:
        return round(HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * value / self.y_max, 1)


def chart(frame: Frame, series: Sequence[Series], bars: Sequence[tuple[float, float, float]] = ()) -> Markup:
    """Lines and dots over axes; `bars` are (from x, to x, height as a part of a fifth of the frame), behind them."""
    parts = [_axes(frame)]
    for low, high, height in bars:
        tall = (HEIGHT - TOP - BOTTOM) / 5 * height
        parts.append(
            f'<rect class="bar" x="{frame.x(low) + 0.5:.1f}" y="{HEIGHT - BOTTOM - tall:.1f}" '
            f'width="{max(frame.x(high) - frame.x(low) - 1, 0.5):.1f}" height="{tall:.1f}"/>'
        )
    for each in series:
        points = [(frame.x(x), frame.y(y)) for x, y in zip(each.x, each.y, strict=True)]
        if len(points) > 1:
            path = " ".join(f"{x},{y}" for x, y in points)
            parts.append(f'<polyline class="line {each.style}" points="{path}"/>')
        if each.dots or len(points) == 1:
            parts += [f'<circle class="dot {each.style}" cx="{x}" cy="{y}" r="3.2"/>' for x, y in points]
    return _svg(frame, "".join(parts))


def strip(
    value: float | None, low: float | None, high: float | None, *, start: float = 0.0, end: float = 1.0
) -> Markup:
    """A dot with its interval on a line from `start` to `end`; a tick stands at 0 where the line crosses it."""
    if value is None:
        return Markup("")

    def x(at: float) -> float:
        return round(4 + (STRIP_WIDTH - 8) * (min(max(at, start), end) - start) / (end - start), 1)

    middle = STRIP_HEIGHT / 2
    parts = [f'<line class="rail" x1="4" x2="{STRIP_WIDTH - 4}" y1="{middle}" y2="{middle}"/>']
    if start < 0 < end:
        parts.append(f'<line class="zero" x1="{x(0)}" x2="{x(0)}" y1="1" y2="{STRIP_HEIGHT - 1}"/>')
    if low is not None and high is not None:
        parts.append(f'<line class="whisker" x1="{x(low)}" x2="{x(high)}" y1="{middle}" y2="{middle}"/>')
    parts.append(f'<circle class="dot one" cx="{x(value)}" cy="{middle}" r="3.6"/>')
    return Markup(
        f'<svg class="strip" viewBox="0 0 {STRIP_WIDTH} {STRIP_HEIGHT}" width="{STRIP_WIDTH}" height="{STRIP_HEIGHT}" '
        f'aria-hidden="true">{"".join(parts)}</svg>'
    )


def columns(frame: Frame, names: Sequence[str], values: Sequence[Interval], line: float) -> Markup:
    """Bars with their interval for a few named places, and a dashed line at `line`."""
    parts = [_axes(frame, x_ticks=False)]
    wide = frame.x_max / max(len(names), 1)
    for place, (name, (value, low, high)) in enumerate(zip(names, values, strict=True)):
        left, right, middle = (frame.x(wide * (place + part)) for part in (0.2, 0.8, 0.5))
        parts.append(
            f'<rect class="column" x="{left}" y="{frame.y(value)}" width="{right - left:.1f}" '
            f'height="{HEIGHT - BOTTOM - frame.y(value):.1f}"/>'
        )
        if low is not None and high is not None:
            parts.append(
                f'<line class="whisker" x1="{middle}" x2="{middle}" y1="{frame.y(low)}" y2="{frame.y(high)}"/>'
            )
        parts.append(f'<text x="{middle}" y="{HEIGHT - BOTTOM + 14}" text-anchor="middle">{escape(name)}</text>')
    across = f'x1="{frame.x(0)}" x2="{frame.x(frame.x_max)}" y1="{frame.y(line)}" y2="{frame.y(line)}"'
    return _svg(frame, "".join([*parts, f'<line class="line chance" {across}/>']))


def nice_top(value: float) -> float:
    """The end of an axis for a largest value: 0.1, 0.2, 0.5 or 1."""
    return next((top for top in (0.05, 0.1, 0.2, 0.5) if value <= top), 1.0)


def _axes(frame: Frame, x_ticks: bool = True) -> str:
    parts = []
    for step in range(6):
        part = step / 5
        x, y = frame.x(frame.x_max * part), frame.y(frame.y_max * part)
        parts.append(f'<line class="grid" x1="{frame.x(0)}" x2="{frame.x(frame.x_max)}" y1="{y}" y2="{y}"/>')
        parts.append(f'<text x="{LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{frame.y_max * part:.2g}</text>')
        if x_ticks:
            parts.append(
                f'<text x="{x}" y="{HEIGHT - BOTTOM + 14}" text-anchor="middle">{frame.x_max * part:.2g}</text>'
            )
    middle = (TOP + HEIGHT - BOTTOM) / 2
    parts.append(
        f'<text x="{(LEFT + WIDTH - RIGHT) / 2}" y="{HEIGHT - 6}" text-anchor="middle">{escape(frame.x_label)}</text>'
    )
    parts.append(
        f'<text x="12" y="{middle}" text-anchor="middle" transform="rotate(-90 12 {middle})">{escape(frame.y_label)}</text>'
    )
    return "".join(parts)


def _svg(frame: Frame, inside: str) -> Markup:
    return Markup(
        f'<svg class="chart" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(frame.title)}">{inside}</svg>'
    )
