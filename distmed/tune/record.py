"""The record of a search: one line of JSON for all that happens to a trial, from which everything else can be told again.

Events flow in and are on disk before the search goes on; trials, as they stand, flow out, also after the driver was killed.
"""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

State = Literal["running", "waiting", "done", "stopped", "failed"]
ENDED = ("done", "stopped", "failed")
BEAT_S = 60.0


@dataclass(frozen=True)
class Evaluation:
    """`progress` is the part of the trial's steps that were done, `value` the metric that is sought."""

    step: int
    progress: float
    value: float
    metrics: dict[str, float]


@dataclass(frozen=True)
class Phase:
    """From `step` on the trial had this setting; `source` is the trial that it was copied from, itself at the start."""

    step: int
    setting: dict[str, Any]
    source: int


@dataclass
class Trial:
    """`point` numbers the settings, `repeat` the seeds of one; `clones` counts how often it went on as a copy, last of the
    checkpoint `copied`. Seconds are those in which it had, or waited for, workers, of which it may have had others before.
    """

    number: int
    point: int
    repeat: int
    setting: dict[str, Any]
    workers: int = 1
    state: State = "running"
    cause: str = ""
    seconds: float = 0.0
    accelerator_seconds: float = 0.0
    retries: int = 0
    clones: int = 0
    evaluations: list[Evaluation] = field(default_factory=list)
    phases: list[Phase] = field(default_factory=list)
    copied: str | None = None
    since: float | None = None

    @property
    def ended(self) -> bool:
        return self.state in ENDED

    @property
    def step(self) -> int:
        return self.evaluations[-1].step if self.evaluations else 0

    @property
    def progress(self) -> float:
        return self.evaluations[-1].progress if self.evaluations else 0.0

    @property
    def own_evaluations(self) -> list[Evaluation]:
        """The finite ones since it last went on as a copy: those up to then are another trial's."""
        since = self.phases[-1].step if self.phases else 0
        return [each for each in self.evaluations if each.step > since and math.isfinite(each.value)]

    def best(self, mode: str) -> Evaluation | None:
        """The best evaluation of its own; the earliest of equals."""
        return min(self.own_evaluations, key=lambda each: (as_loss(each.value, mode), each.step), default=None)

    def seconds_at(self, now: float) -> float:
        return self.seconds + (now - self.since if self.since is not None else 0.0)

    def accelerator_seconds_at(self, now: float) -> float:
        return self.accelerator_seconds + (self.seconds_at(now) - self.seconds) * self.workers


class Record:
    """`search.jsonl`: appended to, never rewritten. `trials` is what all lines together say."""

    def __init__(self, path: Path, clock: Callable[[], float] = time.time) -> None:
        self.path = path
        self.clock = clock
        self.trials: dict[int, Trial] = {}
        self._writes = False
        self._last = 0.0
        for event in _lines(path):
            self._take(event)
        self._cut_short = [trial.number for trial in self.trials.values() if trial.since is not None]
        for trial in self.trials.values():
            # The driver lived until its last line.
            _pause(trial, self._last)
            trial.state = trial.state if trial.ended else "waiting"

    def start(self, trial: Trial) -> None:
        """A trial begins, or goes on."""
        self._write(
            "start",
            trial.number,
            point=trial.point,
            repeat=trial.repeat,
            setting=trial.setting,
            workers=trial.workers,
        )

    def evaluated(self, number: int, step: int, progress: float, value: float, metrics: dict[str, float]) -> None:
        self._write("evaluation", number, step=step, progress=progress, value=value, metrics=metrics)

    def retried(self, number: int, cause: str) -> None:
        self._write("retry", number, cause=cause)

    def cloned(self, number: int, source: int, step: int, setting: dict[str, Any], folder: str) -> None:
        """It goes on as a copy of the checkpoint in `folder`, which is the source's."""
        self._write("clone", number, source=source, step=step, setting=setting, folder=folder)

    def paused(self, number: int) -> None:
        """It lost its workers and will go on in another session of the search."""
        self._write("pause", number)

    def ended(self, number: int, state: State, cause: str = "") -> None:
        """The first end counts: what is told twice, is told once."""
        if not self.trials[number].ended:
            self._write("end", number, state=state, cause=cause)

    def beat(self) -> None:
        """Called again and again: what trials cost is known to the minute, also where nothing happens until a kill."""
        if self.clock() - self._last >= BEAT_S and any(trial.since is not None for trial in self.trials.values()):
            self._write("beat", None)

    def _write(self, event: str, number: int | None, **fields: Any) -> None:
        line = {"event": event, "trial": number, "time": round(self.clock(), 3), **fields}
        if not self._writes:
            _cut_back(self.path)
            self._writes = True
            for lost in self._cut_short:
                self._append({"event": "pause", "trial": lost, "time": self._last})
        self._append(line)
        self._take(line)

    def _append(self, line: dict[str, Any]) -> None:
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
            file.flush()
            os.fsync(file.fileno())

    def _take(self, event: dict[str, Any]) -> None:
        number, at = event["trial"], event["time"]
        self._last = at
        match event["event"]:
            case "start":
                if number not in self.trials:
                    self.trials[number] = Trial(
                        number,
                        event["point"],
                        event["repeat"],
                        event["setting"],
                        event["workers"],
                        phases=[Phase(0, event["setting"], number)],
                    )
                trial = self.trials[number]
                _pause(trial, trial.since)
                trial.state, trial.since, trial.workers = "running", at, event["workers"]
            case "evaluation":
                trial = self.trials[number]
                found = Evaluation(event["step"], event["progress"], event["value"], event["metrics"])
                # After a restart it repeats the steps since its checkpoint.
                trial.evaluations = [each for each in trial.evaluations if each.step < found.step] + [found]
                _go_on(trial, at)
            case "retry":
                trial = self.trials[number]
                trial.retries += 1
                trial.cause = event["cause"]
                _go_on(trial, at)
            case "clone":
                trial = self.trials[number]
                source, step = self.trials[event["source"]], event["step"]
                trial.setting, trial.copied = event["setting"], event["folder"]
                trial.clones += 1
                trial.phases = [each for each in source.phases if each.step < step]
                trial.phases.append(Phase(step, event["setting"], source.number))
                trial.evaluations = [each for each in source.evaluations if each.step <= step]
                _go_on(trial, at)
            case "pause":
                trial = self.trials[number]
                _pause(trial, at)
                trial.state = "waiting"
            case "end":
                trial = self.trials[number]
                _pause(trial, at)
                trial.state, trial.cause = event["state"], event["cause"]


def as_loss(value: float, mode: str) -> float:
    """The value turned so that the least is the best."""
    return value if mode == "min" else -value


def _go_on(trial: Trial, at: float) -> None:
    if trial.since is not None:
        trial.accelerator_seconds = trial.accelerator_seconds_at(at)
        trial.seconds = trial.seconds_at(at)
        trial.since = at


def _pause(trial: Trial, at: float | None) -> None:
    if at is not None:
        _go_on(trial, at)
    trial.since = None


def _lines(path: Path) -> list[dict[str, Any]]:
    """The whole lines; one that a kill cut short is passed over."""
    text = path.read_bytes() if path.exists() else b""
    return [json.loads(line) for line in text[: text.rfind(b"\n") + 1].splitlines()]


def _cut_back(path: Path) -> None:
    """Take a line away that a kill cut short, so that the next begins on a line of its own."""
    if path.exists():
        text = path.read_bytes()
        os.truncate(path, text.rfind(b"\n") + 1)
