"""A run that is told to stop where an evaluation was due makes it up; the best by one metric is no bar for another."""

from __future__ import annotations

import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from distmed.train.state import Best, RunState
from tests.train.conftest import Run
from tests.train.door import SMALL

EVERY_STEP = [*SMALL, "train.max_steps=12", "train.eval_every=1"]


@pytest.mark.slow
def test_an_evaluation_that_a_stop_left_out_is_made_by_the_resumed_run(
    start: Callable[..., subprocess.Popen[str]],
) -> None:
    env = {"WANDB_MODE": "disabled"}
    process = start(*EVERY_STEP, "--name", "late", env=env)
    run = Run(Path(start.folder) / "runs" / "late")  # type: ignore[attr-defined]
    run.wait_for_step(3, process)
    process.send_signal(signal.SIGINT)
    output, _ = process.communicate(timeout=200)
    assert process.returncode == 130, output
    stopped = max(run.losses)
    assert evaluated(run) == list(range(1, stopped)), "the stop is heeded before the evaluation of its step"
    process = start(*EVERY_STEP, "checkpoint.best=eval/loss", "--resume", "--name", "late", env=env)
    output, _ = process.communicate(timeout=400)
    assert process.returncode == 0, output
    assert evaluated(run) == list(run.losses) == list(range(1, 13))
    assert "checkpoint.best is eval/loss now and was diag/macro_f1: the best is sought anew" in output
    shown = {line["step"]: line["eval/loss"] for line in run.lines if "eval/loss" in line}
    later = {step: value for step, value in shown.items() if step >= stopped}
    assert run.summary["best"]["value"] == min(later.values()) == shown[run.summary["best"]["step"]]


@pytest.mark.slow
def test_a_stop_during_an_evaluation_gives_it_up_and_saves_its_step(
    start: Callable[..., subprocess.Popen[str]],
) -> None:
    long = [
        *SMALL,
        "train.eval_every=4",
        "data.eval.0.limit=4000",
        "data.unknown_labels=count",
        "checkpoint.every=1000",
    ]
    process = start(*long, "--name", "during", env={"WANDB_MODE": "disabled"})
    run = Run(Path(start.folder) / "runs" / "during")  # type: ignore[attr-defined]
    run.wait_for_step(3, process)
    # The fourth step takes part of a second, and the evaluation after it many.
    time.sleep(2)
    assert max(run.losses) == 3
    process.send_signal(signal.SIGTERM)
    output, _ = process.communicate(timeout=200)
    assert process.returncode == 130, output
    assert list(run.losses) == [1, 2, 3, 4] and evaluated(run) == []
    assert [name.startswith("step-00000004-") for name in run.checkpoints] == [True]


def evaluated(run: Run) -> list[int]:
    """The steps whose evaluation is in the metrics, each once."""
    return sorted(line["step"] for line in run.lines if "eval/loss" in line)


@pytest.mark.parametrize(("was", "kept"), [("eval/loss", True), ("", True), ("diag/macro_f1", False)])
def test_the_best_by_another_metric_is_forgotten(was: str, kept: bool) -> None:
    values: dict[str, Any] = RunState(step=4, best=Best(0.4, 2), judged_by=was).to_dict()
    state = RunState.from_dict(values)
    said = state.judge_by("eval/loss", "a")
    assert (state.best == Best(0.4, 2), said is None) == (kept, kept)


@pytest.mark.parametrize(("was", "kept"), [("a", True), ("", True), ("b", False), (None, True)])
def test_the_best_on_other_cases_is_forgotten(was: str | None, kept: bool) -> None:
    """None: a checkpoint from before the cases were kept."""
    values: dict[str, Any] = RunState(step=4, best=Best(0.4, 2), judged_by="eval/loss", judged_on=was or "").to_dict()
    if was is None:
        del values["judged_on"]
    state = RunState.from_dict(values)
    said = state.judge_by("eval/loss", "a")
    assert (state.best == Best(0.4, 2), said is None) == (kept, kept)
    assert said is None or "data.eval has other cases now" in said
