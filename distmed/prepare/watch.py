"""What a person sees while `prepare` works: a bar on a terminal, one plain line a phase elsewhere. Numbers only."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich import progress

from distmed.terminal import Terminal


class Watch(Terminal):
    """A bar is drawn only where it can be redrawn."""

    @contextmanager
    def phase(self, doing: str, total: int | None = None) -> Iterator[Callable[[int], None]]:
        """A phase; what it yields is told of every so many cases that are done. `total` where it is known."""
        if not self._redraws:
            self.line(doing)
            yield lambda cases: None
            return
        columns = (
            progress.TextColumn("{task.description}", markup=False),
            progress.BarColumn(),
            progress.TextColumn("{task.completed:,.0f} cases"),
            progress.TextColumn("{task.fields[rate]}"),
            progress.TimeElapsedColumn(),
        )
        with progress.Progress(*columns, console=self._console) as bar:
            task = bar.add_task(doing, total=total, rate="")

            def advanced(cases: int) -> None:
                bar.advance(task, cases)
                if speed := bar.tasks[0].speed:
                    bar.update(task, rate=f"{speed:,.0f}/s")

            yield advanced
            if total is None:
                bar.update(task, total=bar.tasks[0].completed or 1)
