"""The logbook: one Ray actor on the driver's host between the workers and everything that outlives them.

Workers write metrics, evaluations and fatal errors into it; it keeps metrics.jsonl and the W&B run, so that both survive a
restart of the workers. The driver reads the news from it and leaves its wish to stop.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from distmed.evaluate.metrics import Confusion, DiseaseRow
from distmed.evaluate.plots import Plot
from distmed.recipe import Recipe
from distmed.rundir import RunDir
from distmed.train.tracking import Tracker


class Logbook:
    """Plain Python; `ray.remote(Logbook)` makes the actor. Events are dicts with a `kind`.

    `environment`: the driver's variables that tracking heeds; as an argument, so that no key shows among the actors.
    """

    def __init__(self, recipe: Recipe, path: Path, first_attempt: int, environment: dict[str, str]) -> None:
        os.environ.update(environment)
        self.run = RunDir(path)
        self.tracker = Tracker(recipe, self.run)
        self.events: list[dict[str, Any]] = [{"kind": "note", "text": note} for note in self.tracker.notes]
        self.next_attempt = first_attempt
        self.first_attempt = first_attempt
        self.stop = False
        self.last_step = 0

    def attempt_starts(self, step: int, notes: list[str]) -> int:
        """Training goes on after `step`: what was logged beyond it is cut, and said. The number of this attempt."""
        attempt = self.next_attempt
        self.next_attempt += 1
        repeated = max(0, self.last_step - step)
        self.tracker.attempt_starts(step, attempt)
        for note in notes:
            self._tell("note", text=note)
        if attempt > self.first_attempt:
            lost = f"{repeated} step{'' if repeated == 1 else 's'} repeated"
            self._tell("restart", text=f"restart {attempt - self.first_attempt}: goes on after step {step}; {lost}")
        elif step:
            self._tell("note", text=f"resumed after step {step}")
        self.last_step = step
        return attempt

    def log(self, step: int, metrics: dict[str, float], evaluation: dict[str, float], shown: bool) -> None:
        """One step; `shown` ones go to metrics.jsonl and W&B, the others only move the live line."""
        self.last_step = max(self.last_step, step)
        if shown:
            try:
                self.tracker.log(step, metrics | evaluation)
            except OSError as error:
                # Nobody waits for the answer to this call: unsaid, the rest of the curve would be missing.
                self.stop = True
                self.fatal("user", f"cannot write {self.run.metrics}: {error.strerror}", "make room, then --resume")
        self._tell("step", step=step, metrics=metrics, shown=shown)
        if evaluation:
            self._tell("evaluation", step=step, metrics=evaluation)

    def log_tables(
        self, step: int, confusion: list[Confusion], per_disease: list[DiseaseRow], plots: list[Plot]
    ) -> None:
        """Which diagnoses are taken for which, how each disease fares, and the plots of an evaluation."""
        self.tracker.log_tables(step, confusion, per_disease, plots)

    def keep_probe(self, content: bytes) -> None:
        """The logits of the best evaluation so far."""
        path = self.run.probe
        path.parent.mkdir(exist_ok=True)
        path.with_suffix(".partial").write_bytes(content)
        path.with_suffix(".partial").rename(path)

    def note(self, text: str) -> None:
        self._tell("note", text=text)

    def fatal(self, kind: str, message: str, hint: str) -> None:
        """The workers ended for a reason that a restart would only repeat; `kind` is `user` or `run`."""
        self._tell("fatal", reason=kind, message=message, hint=hint)

    def done(self, result: dict[str, Any]) -> None:
        """The loop came to its end, or was stopped after a checkpoint."""
        self._tell("done", result=result)

    def stop_asked(self) -> bool:
        return self.stop

    def ask_to_stop(self) -> None:
        self.stop = True

    def news(self) -> list[dict[str, Any]]:
        """The events since the last call."""
        events, self.events = self.events, []
        return events

    def finish(self, summary: dict[str, Any]) -> None:
        """Close the W&B run."""
        self.tracker.finish(summary)

    def _tell(self, kind: str, **fields: Any) -> None:
        self.events.append({"kind": kind, **fields})


class StopWish:
    """The driver's wish to stop, as the first worker sees it: asked for one step ahead, so that no step waits for an answer."""

    def __init__(self, logbook: Any, *, listens: bool) -> None:
        self._logbook = logbook
        self._listens = listens
        self._answer: Any = logbook.stop_asked.remote() if listens else None

    def seen(self) -> bool:
        """Whether the driver asked to stop before the last call."""
        import ray

        if not self._listens:
            return False
        wish = bool(ray.get(self._answer))
        self._answer = self._logbook.stop_asked.remote()
        return wish
