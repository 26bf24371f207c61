"""A driver that leaves a search: Ray would end a process that leaves it while a thread still asks it things."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import MagicMock

import pytest

from distmed.errors import UserError
from distmed.signals import StopSignals
from distmed.train.lock import RunLock
from distmed.tune import command
from distmed.tune.search import Tells


@pytest.mark.parametrize(
    ("error", "words"),
    [(UserError, "run a is being trained by process"), (KeyboardInterrupt, None)],
    ids=["lost", "INT"],
)
def test_ray_tune_has_ended_before_the_driver_goes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: type[BaseException], words: str | None
) -> None:
    """Its lock was taken over, or a second interrupt came."""
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
    if error is KeyboardInterrupt:
        display.show.side_effect = KeyboardInterrupt
    monkeypatch.setattr(command, "_fit", fit)
    with StopSignals() as signals, RunLock(tmp_path / "lock", "a") as lock:
        lock.lost = error is UserError
        with pytest.raises(error, match=words):
            command._watch(search, display, signals, lock)
    assert "search" not in {thread.name for thread in threading.enumerate()}
