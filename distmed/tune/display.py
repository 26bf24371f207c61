"""What a person sees of a search: a live table on a terminal, one plain line an event elsewhere. Numbers only, never a case."""

from __future__ import annotations

import time
from types import TracebackType
from typing import TYPE_CHECKING, Any, TextIO

from rich import box
from rich.live import Live
from rich.table import Table

from distmed.credentials import without_credentials
from distmed.terminal import Terminal
from distmed.tune.record import Trial, as_loss

if TYPE_CHECKING:
    from distmed.tune.search import Search

SHOWN_ROWS = 20
LOOKS = {"running": "cyan", "done": "green", "stopped": "dim", "failed": "red", "waiting": "yellow"}


class Display(Terminal):
    """`show` is called again and again; it writes only what is new."""

    def __init__(self, terminal: TextIO, search: Search, total_steps: int, *, live: bool | None = None) -> None:
        super().__init__(terminal, live=live)
        self._search, self._total_steps = search, total_steps
        self._live: Live | None = None
        self._said: dict[int, tuple[Any, ...]] = {}
        self._began = time.monotonic()

    def __enter__(self) -> Display:
        if self._redraws:
            self._live = Live(console=self._console, redirect_stdout=False, redirect_stderr=False, refresh_per_second=2)
            self._live.start()
        else:
            # What an earlier session said is known.
            self._said = {trial.number: _signs(trial) for trial in self._search.trials}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.show()
        if self._live is not None:
            self._live.stop()
            self._live = None

    def show(self) -> None:
        if self._live is not None:
            self._live.update(self._table())
            return
        for trial in self._search.trials:
            if self._said.get(trial.number) != _signs(trial):
                self._said[trial.number] = _signs(trial)
                self.line(self._told(trial))

    def _told(self, trial: Trial) -> str:
        parts = [f"trial {trial.number}", trial.state, setting_text(trial.setting)]
        if trial.evaluations:
            parts += [f"step {trial.step}", f"{trial.evaluations[-1].value:.4f}", f"best so far {self._best()}"]
        return "  ".join([*parts, trial.cause] if trial.cause else parts)

    def _table(self) -> Table:
        knobs = list(self._search.space.order)
        table = Table(box=box.SIMPLE_HEAD, pad_edge=False, caption=self._caption(), caption_justify="left")
        for heading in ("trial", "state", *(key.rpartition(".")[2] for key in knobs), "step", "metric", "best"):
            table.add_column(heading, justify="left" if heading == "state" else "right", overflow="fold")
        for trial in self._rows():
            best = trial.best(self._search.mode)
            table.add_row(
                str(trial.number),
                trial.state,
                *(_short(trial.setting.get(key, "")) for key in knobs),
                str(trial.step) if trial.evaluations else "",
                f"{trial.evaluations[-1].value:.4f}" if trial.evaluations else "",
                f"{best.value:.4f}" if best else "",
                style=LOOKS[trial.state],
            )
        return table

    def _rows(self) -> list[Trial]:
        """Those that run, and the best of the others, as many as fit."""
        running = [trial for trial in self._search.trials if not trial.ended]
        mode = self._search.mode
        others = [trial for trial in self._search.trials if trial.ended]
        others.sort(key=lambda trial: as_loss(best.value, mode) if (best := trial.best(mode)) else float("inf"))
        return sorted([*running, *others][:SHOWN_ROWS], key=lambda trial: trial.number)

    def _caption(self) -> str:
        search, tune = self._search, self._search.tune
        parts = [
            f"best so far {self._best()}",
            f"{sum(trial.ended for trial in search.trials)} trials ended, {search.proposals.wanted} settings in all",
        ]
        if tune.time_s is not None:
            parts.append(f"{max(0.0, tune.time_s - (time.monotonic() - self._began)):.0f} s left")
        spent = search.accelerator_hours()
        of = f" of {tune.accelerator_hours:g}" if tune.accelerator_hours is not None else ""
        parts.append(f"{spent:.2f}{of} accelerator-hours")
        return "  ".join(parts)

    def _best(self) -> str:
        values = [best.value for trial in self._search.trials if (best := trial.best(self._search.mode))]
        return f"{(min if self._search.mode == 'min' else max)(values):.4f}" if values else "none"


def _signs(trial: Trial) -> tuple[Any, ...]:
    return trial.state, trial.step, trial.retries, len(trial.phases)


def setting_text(setting: dict[str, Any]) -> str:
    """`lr=0.0003 warmup=0.1`: the last part of each key is enough for a person."""
    return " ".join(f"{key.rpartition('.')[2]}={_short(value)}" for key, value in setting.items())


def _short(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(without_credentials(value))
