"""What a person sees of a run: a live line on a terminal, one plain line a logged step elsewhere, and a table at the end.

Steps, evaluations, notes and the summary flow in; text on one stream flows out. Numbers only, and never a case.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO

from rich import box, progress
from rich.live import Live
from rich.spinner import Spinner
from rich.table import Table

from distmed.evaluate.metrics import METRICS
from distmed.terminal import Terminal

IN_A_LINE = ("eval/loss", "diag/top1", "diag/top3", "diag/macro_f1", "diag/ece")


class Progress(Terminal):
    """A line a step, an evaluation, a checkpoint. `clock`: seconds since any moment."""

    def __init__(
        self, terminal: TextIO, *, live: bool | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        super().__init__(terminal, live=live)
        self._clock = clock
        self._bar: progress.Progress | None = None
        self._total_steps = 0
        self._last: tuple[int, Mapping[str, float]] = (0, {})
        self._anchor: tuple[float, int] | None = None

    @contextmanager
    def phase(self, doing: str) -> Iterator[Callable[[str], None]]:
        """Something that takes seconds before or after the steps; a call of what it yields says how far it is."""
        started = self._clock()
        if not self._redraws:
            self.line(doing)
            yield lambda text: None
            return
        # Live would catch sys.stdout, too, and with it all that belongs into the log.
        spinner = Spinner("dots", doing)
        line = Live(
            spinner,
            console=self._console,
            transient=True,
            redirect_stdout=False,
            redirect_stderr=False,
        )
        with line:
            yield lambda text: spinner.update(text=f"{doing}  {text}")
        self.line(f"{doing}  {_duration(self._clock() - started)}")

    def start(self, total_steps: int) -> None:
        """The steps begin, `total_steps` in all; a resumed run does not begin at 0."""
        self._total_steps = total_steps
        if not self._redraws:
            return
        self._bar = progress.Progress(
            progress.BarColumn(bar_width=None),
            progress.MofNCompleteColumn(),
            progress.TextColumn("{task.fields[figures]}", markup=False),
            console=self._console,
            transient=True,
            expand=True,
            redirect_stdout=False,
            redirect_stderr=False,
        )
        self._bar.add_task("steps", total=total_steps, figures="waiting for the workers")
        self._bar.start()

    def stop(self) -> None:
        """No more steps: takes the live line away. May be called again."""
        if self._bar is not None:
            self._bar.stop()
            self._bar = None

    def step(self, step: int, metrics: Mapping[str, float], *, shown: bool) -> None:
        """Metrics of one step; without a terminal only the `shown` ones make a line."""
        before, known = self._last
        if self._anchor is None or step <= before:
            self._anchor = (self._clock(), step)
        memory = {name: value for name, value in known.items() if name.startswith("mem/")}
        self._last = (step, {**memory, **metrics})
        if self._bar is not None:
            self._bar.update(self._bar.task_ids[0], completed=step, figures="  ".join(self._figures(brief=True)))
        elif shown:
            self.line("  ".join([f"step {step}/{self._total_steps}", *self._figures(brief=False)]))

    def evaluation(self, step: int, metrics: Mapping[str, float]) -> None:
        """Global metrics of an evaluation."""
        known = [f"{_short(name)} {metrics[name]:.3f}" for name in IN_A_LINE if name in metrics]
        self.line("  ".join(["eval", f"step {step}", *known]))

    def saved(self, step: int) -> None:
        """A checkpoint is whole: a run that dies goes on from there."""
        self.line(f"saved  step {step}")

    def final_table(
        self,
        summary: Mapping[str, Any],
        floors: Mapping[str, Mapping[str, float]],
        paths: Mapping[str, Path],
    ) -> None:
        """The figures of summary.json, the last evaluation beside the `floors` (by name), and where everything lies."""
        for name, figure in _figures_of_run(summary).items():
            self.line(f"{name:<8}  {figure}")
        self.line("")
        if summary["eval"]:
            self._console.print(_evaluation_table(summary["eval"], floors))
            self.line("")
        for name, path in paths.items():
            self.line(f"{name:<8}  {path}")

    def _figures(self, *, brief: bool) -> list[str]:
        step, metrics = self._last
        figures = []
        if "train/loss" in metrics:
            figures.append(f"loss {metrics['train/loss']:.3f}")
        if "train/lr" in metrics and not brief:
            figures.append(f"lr {metrics['train/lr']:.1e}")
        if "perf/tokens_per_s" in metrics:
            figures.append(f"{_count(metrics['perf/tokens_per_s'])} tok/s")
        if "perf/mfu" in metrics:
            figures.append(f"mfu {metrics['perf/mfu']:.0%}")
        memory = metrics.get("mem/device_peak_gib", metrics.get("mem/host_peak_gib"))
        if memory is not None:
            figures.append(f"mem {memory:.1f} GiB")
        step_time = metrics.get("perf/step_time_s")
        if step_time and not brief:
            figures.append(f"data {metrics['perf/data_wait_s'] / step_time:.1%}")
        left = self._seconds_left(step, step_time)
        return figures if left is None else [*figures, f"left {_duration(left)}"]

    def _seconds_left(self, step: int, step_time: float | None) -> float | None:
        """By the clock since this attempt's first step, evaluations and checkpoints included."""
        if self._anchor is None or step <= self._anchor[1]:
            seconds = step_time
        else:
            seconds = (self._clock() - self._anchor[0]) / (step - self._anchor[1])
        return None if seconds is None else seconds * max(0, self._total_steps - step)


def _figures_of_run(summary: Mapping[str, Any]) -> dict[str, str]:
    figures = {
        "steps": f"{summary['steps']} in {_duration(summary['wall_s'])}",
        "tokens": _count(summary["tokens"]),
        "tokens/s": _optional(summary["tokens_per_s"], _count),
        "mfu": _optional(summary["mfu"], "{:.1%}".format),
        "memory": _memory(summary),
        "restarts": str(summary["restarts"]) if summary["restarts"] else "",
        "best": "{value:.3f} at step {step}".format(**summary["best"]) if summary.get("best") else "",
    }
    return {name: figure for name, figure in figures.items() if figure}


def _evaluation_table(evaluation: Mapping[str, float], floors: Mapping[str, Mapping[str, float]]) -> Table:
    columns = {"model": evaluation, **{f"{name} floor": values for name, values in floors.items()}}
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    table.add_column("last evaluation")
    for heading in columns:
        table.add_column(heading, justify="right")
    for name in ("eval/loss", *METRICS):
        if name in evaluation:
            cells = (f"{values[name]:.3f}" if name in values else "" for values in columns.values())
            table.add_row(_short(name), *cells)
    return table


def _memory(summary: Mapping[str, Any]) -> str:
    parts = {"device": summary["device_peak_gib"], "host": summary["host_peak_gib"]}
    known = [f"{value:.1f} GiB {where}" for where, value in parts.items() if value is not None]
    return ", ".join(known) + " (peak of the largest worker)" if known else ""


def _optional(value: float | None, shown: Callable[[float], str]) -> str:
    return "" if value is None else shown(value)


def _short(name: str) -> str:
    return name.rpartition("/")[2]


def _count(value: float) -> str:
    """12345 -> 12.3k."""
    for unit, size in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if value >= size:
            return f"{value / size:.1f}{unit}"
    return f"{value:.0f}"


def _duration(seconds: float) -> str:
    """130 -> 2:10, 3700 -> 1:01:40."""
    if not math.isfinite(seconds):
        return "?"
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"
