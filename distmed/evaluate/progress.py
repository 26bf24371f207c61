"""What a person sees while cases are scored: a bar with the time left on a terminal, elsewhere a line each tenth of the way."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich import progress

from distmed.terminal import Terminal


class Progress(Terminal):
    """Counts and names of steps only, never a case."""

    @contextmanager
    def bar(self, doing: str, total: int) -> Iterator[Bar]:
        """A bar over `total` cases."""
        bar = Bar(self, doing, total)
        if not self._redraws:
            self.line(f"{doing}: {total} cases")
            yield bar
            return
        live = progress.Progress(
            progress.TextColumn("{task.description}", markup=False),
            progress.BarColumn(bar_width=None),
            progress.MofNCompleteColumn(),
            progress.TextColumn("{task.fields[rate]}", markup=False),
            progress.TimeRemainingColumn(),
            console=self._console,
            transient=True,
            expand=True,
            # Standard output belongs to the log.
            redirect_stdout=False,
            redirect_stderr=False,
        )
        with live:
            task = live.add_task(doing, total=total, rate="")
            bar.show = lambda done, rate: live.update(task, completed=done, rate=f"{rate:.0f} cases/s" if rate else "")
            yield bar
        self.line(f"{doing}: {total} cases in {bar.seconds:.0f} s")


class Bar:
    """How many of the cases are scored; `found` ones were scored by an earlier attempt."""

    def __init__(self, owner: Progress, doing: str, total: int) -> None:
        self._owner = owner
        self._doing = doing
        self._total = total
        self._started = time.monotonic()
        self._done = self._found = self._tenths = 0
        self.show = self._show_line

    @property
    def seconds(self) -> float:
        return time.monotonic() - self._started

    def found(self, cases: int) -> None:
        self._found = self._done = self._done + cases
        self._owner.line(f"{self._doing}: {cases} cases were scored before")

    def advance(self, cases: int) -> None:
        self._done += cases
        self.show(self._done, (self._done - self._found) / max(self.seconds, 1e-9))

    def _show_line(self, done: int, rate: float) -> None:
        tenths = 10 * done // max(self._total, 1)
        if tenths > self._tenths:
            self._tenths = tenths
            left = (self._total - done) / rate if rate else 0
            self._owner.line(f"{self._doing}: {done}/{self._total}  {rate:.0f} cases/s  left {left:.0f} s")
