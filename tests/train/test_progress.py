"""What a person sees, character by character, with and without a terminal."""

from __future__ import annotations

import io
import re
import sys
from pathlib import Path
from typing import Any

import pytest

from distmed.train.progress import Progress

METRICS = {
    "train/loss": 2.3141,
    "train/lr": 3e-4,
    "perf/tokens_per_s": 12_345.0,
    "perf/mfu": 0.312,
    "perf/step_time_s": 0.5,
    "perf/data_wait_s": 0.002,
    "mem/host_peak_gib": 1.94,
}
SUMMARY: dict[str, Any] = {
    "steps": 400,
    "tokens": 1_234_567,
    "tokens_per_s": 12_345.6,
    "mfu": 0.31,
    "device_peak_gib": None,
    "host_peak_gib": 1.94,
    "wall_s": 130.0,
    "restarts": 1,
    "eval": {"eval/loss": 0.5, "diag/top1": 0.9, "diag/macro_f1": 0.85, "diag/top1/sex=female": 0.9},
    "best": {"value": 0.85, "step": 300},
}


class Screen:
    """A Progress that writes into memory, and a clock moved by hand."""

    def __init__(self, live: bool) -> None:
        self.file = io.StringIO()
        self.now = 0.0
        self.progress = Progress(self.file, live=live, clock=lambda: self.now)

    @property
    def text(self) -> str:
        return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", self.file.getvalue())


@pytest.fixture
def plain() -> Screen:
    return Screen(live=False)


@pytest.fixture(autouse=True)
def eighty_columns(monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.delenv("NO_COLOR", raising=False)


def test_plain_line_of_a_logged_step(plain):
    plain.progress.start(400)
    plain.progress.step(20, METRICS, shown=True)
    assert plain.file.getvalue() == (
        "step 20/400  loss 2.314  lr 3.0e-04  12.3k tok/s  mfu 31%  mem 1.9 GiB  data 0.4%  left 3:10\n"
    )


def test_steps_between_make_no_line(plain):
    plain.progress.start(400)
    plain.progress.step(19, METRICS, shown=False)
    assert plain.text == ""


def test_device_memory_goes_before_the_hosts_and_unknown_figures_are_left_out(plain):
    plain.progress.start(10)
    plain.progress.step(10, {"mem/device_peak_gib": 70.0, **METRICS}, shown=True)
    assert "mem 70.0 GiB" in plain.text
    plain.progress.step(1, {"train/loss": float("nan")}, shown=True)
    assert plain.text.splitlines()[1] == "step 1/10  loss nan  mem 70.0 GiB"


def test_time_left_goes_by_the_clock_with_evaluations_in_it(plain):
    plain.progress.start(100)
    plain.progress.step(10, METRICS, shown=True)
    plain.now = 60
    plain.progress.step(20, METRICS, shown=True)
    assert [line.rpartition("  ")[2] for line in plain.text.splitlines()] == ["left 0:45", "left 8:00"]


def test_time_left_after_a_restart_forgets_the_time_before(plain):
    plain.progress.start(100)
    plain.progress.step(50, METRICS, shown=False)
    plain.now = 1000
    plain.progress.step(41, METRICS, shown=False)
    plain.now = 1009
    plain.progress.step(50, METRICS, shown=True)
    assert plain.text.endswith("left 0:50\n")


def test_evaluation_line(plain):
    plain.progress.evaluation(100, {"diag/top1": 0.5, "eval/loss": 1.25, "diag/macro_f1": 0.4, "diag/top1/age=65+": 1})
    assert plain.text == "eval  step 100  loss 1.250  top1 0.500  macro_f1 0.400\n"


def test_notes_and_phases_are_written_as_they_are(plain):
    plain.progress.note("restart 1: goes on after step 10 [bold]; " + "x" * 100)
    with plain.progress.phase("counting tokens"):
        assert plain.text.endswith("counting tokens\n")
    assert plain.text == "note: restart 1: goes on after step 10 [bold]; " + "x" * 100 + "\ncounting tokens\n"


def test_final_table_beside_the_floors(plain):
    floors = {"linear": {"diag/top1": 0.87, "diag/macro_f1": 0.74}, "majority": {"diag/top1": 0.05}}
    plain.progress.final_table(SUMMARY, floors, {"model": Path("/runs/demo/model"), "metrics": Path("/m" + "x" * 90)})
    assert [line.rstrip() for line in plain.text.splitlines()] == [
        "steps     400 in 2:10",
        "tokens    1.2M",
        "tokens/s  12.3k",
        "mfu       31.0%",
        "memory    1.9 GiB host (peak of the largest worker)",
        "restarts  1",
        "best      0.850 at step 300",
        "",
        "last evaluation   model   linear floor   majority floor",
        "─" * 55,
        "loss              0.500",
        "top1              0.900          0.870            0.050",
        "macro_f1          0.850          0.740",
        "",
        "model     /runs/demo/model",
        "metrics   /m" + "x" * 90,
    ]


def test_final_table_without_evaluation_or_speed(plain):
    summary = {**SUMMARY, "tokens_per_s": None, "mfu": None, "host_peak_gib": None, "eval": {}, "best": None}
    plain.progress.final_table(summary | {"restarts": 0}, {}, {})
    assert plain.text == "steps     400 in 2:10\ntokens    1.2M\n\n"


def test_live_line_is_redrawn_and_taken_away():
    screen = Screen(live=True)
    screen.progress.start(400)
    screen.progress.step(20, METRICS, shown=True)
    screen.progress._bar.refresh()
    assert "20/400 loss 2.314  12.3k tok/s  mfu 31%  mem 1.9 GiB  left 3:10" in screen.text
    screen.progress.step(21, {"train/loss": 1.0}, shown=False)
    screen.progress.evaluation(21, {"diag/top1": 0.5})
    screen.progress.note("hello")
    assert "eval  step 21  top1 0.500\n" in screen.text
    assert "note: hello\n" in screen.text
    screen.progress.stop()
    screen.progress.stop()
    assert "21/400 loss 1.000  mem 1.9 GiB" in screen.text
    assert screen.file.getvalue().count("\x1b[?25l") == screen.file.getvalue().count("\x1b[?25h")  # the cursor is back


def test_live_line_fits_a_narrow_terminal(monkeypatch):
    monkeypatch.setenv("COLUMNS", "50")
    screen = Screen(live=True)
    screen.progress.start(400)
    screen.progress.step(20, METRICS, shown=True)
    screen.progress._bar.refresh()
    screen.progress.stop()
    assert max(len(line) for line in re.split(r"[\r\n]", screen.text)) <= 50


def test_live_line_leaves_standard_output_to_the_log():
    screen = Screen(live=True)
    stdout = sys.stdout
    with screen.progress.phase("reading the cases"):
        assert sys.stdout is stdout
    screen.progress.start(4)
    assert sys.stdout is stdout
    screen.progress.stop()
    assert "reading the cases  0:00\n" in screen.text


def test_terminal_is_recognized(monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")
    file = io.StringIO()
    progress = Progress(file)
    progress.start(4)
    progress.step(1, METRICS, shown=True)
    assert file.getvalue().startswith("step 1/4")
