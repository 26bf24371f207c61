"""What a person sees of a search: a line an event, or a live table."""

from __future__ import annotations

import io
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from distmed.tune.display import Display
from distmed.tune.record import Record, Trial
from distmed.tune.space import Space
from tests.tune.simulated import recipe_with


def shown(folder: Path, *, live: bool, **tune: Any) -> tuple[Display, Record, io.StringIO]:
    recipe = recipe_with(trials=5, **tune)
    record = Record(folder / "r.jsonl", clock=lambda: 0.0)

    class Searching(SimpleNamespace):
        @property
        def trials(self) -> list[Trial]:
            return list(record.trials.values())

    search: Any = Searching(
        space=Space(recipe),
        tune=recipe.tune,
        mode="max",
        proposals=SimpleNamespace(wanted=5),
        accelerator_hours=lambda: 0.25,
    )
    text = io.StringIO()
    return Display(text, search, 90, live=live), record, text


def test_without_a_terminal_each_event_is_one_line(tmp_path: Path) -> None:
    display, record, text = shown(tmp_path, live=False)
    with display:
        record.start(Trial(0, 0, 0, {"optimizer.lr": 1e-5}))
        display.show()
        display.show()
        record.evaluated(0, 10, 0.1, 0.25, {})
        display.show()
        record.ended(0, "failed", "the loss of step 12 is not finite")
    assert text.getvalue().splitlines() == [
        "trial 0  running  lr=1e-05",
        "trial 0  running  lr=1e-05  step 10  0.2500  best so far 0.2500",
        "trial 0  failed  lr=1e-05  step 10  0.2500  best so far 0.2500  the loss of step 12 is not finite",
    ]


def test_what_an_earlier_session_said_is_not_said_again(tmp_path: Path) -> None:
    _, record, _ = shown(tmp_path, live=False)
    record.start(Trial(0, 0, 0, {"optimizer.lr": 1e-5}))
    record.ended(0, "done")
    display, _, text = shown(tmp_path, live=False)
    with display:
        display.show()
    assert text.getvalue() == ""


def test_on_a_terminal_a_table_shows_state_knobs_metric_and_what_is_left(tmp_path: Path) -> None:
    display, record, text = shown(tmp_path, live=True, accelerator_hours=2.0, time_s=60.0)
    with display:
        record.start(Trial(0, 0, 0, {"optimizer.lr": 1e-5, "optimizer.warmup": 0.125}))
        record.evaluated(0, 10, 0.1, 0.25, {})
        display.show()
    written = text.getvalue()
    for part in ("running", "1e-05", "0.125", "0.2500", "best so far 0.2500", "s left", "0.25 of 2"):
        assert part in written, part
