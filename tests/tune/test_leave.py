"""A driver that leaves a search: Ray would end a process that leaves it while a thread still asks it things."""

from __future__ import annotations

import threading
import time
from types import SimpleNamespace
from typing import Any
from unittest.mock import MagicMock

import pytest

from distmed.errors import UserError
from distmed.signals import StopSignals
from distmed.tune import command
from distmed.tune.search import Tells


@pytest.mark.parametrize("why", ["its lock was taken over", "a second interrupt"])
def test_ray_tune_has_ended_before_the_driver_goes(monkeypatch: pytest.MonkeyPatch, why: str) -> None:
    search: Any = SimpleNamespace(
        left=False,
        record=SimpleNamespace(beat=lambda: None),
        refused=None,
        given_up=None,
        plan=SimpleNamespace(recipe=SimpleNamespace(cluster=None)),
        tune=SimpleNamespace(time_s=None, accelerator_hours=None),
        proposals=SimpleNamespace(finished=False),
    )
    steps: Any = Tells(search)

    def fit(search: Any) -> None:
        while True:
            steps.on_step_begin(iteration=0, trials=[])
            time.sleep(0.05)

    display: Any = MagicMock()
    if why == "a second interrupt":
        display.show.side_effect = KeyboardInterrupt
    lock: Any = SimpleNamespace(lost=why != "a second interrupt", taken=lambda: UserError("another has it", "wait"))
    monkeypatch.setattr(command, "_fit", fit)
    with StopSignals() as signals, pytest.raises((UserError, KeyboardInterrupt)):
        command._watch(search, display, signals, lock)
    assert "search" not in {thread.name for thread in threading.enumerate()}
