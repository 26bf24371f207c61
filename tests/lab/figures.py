"""What the faults of the lab cost: seconds from the fault to the next step, kept for the table that `make lab` writes; and
which rows of it are of the full lab only (LAB=short is what CI runs)."""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.lab.hosts import wait_until
from tests.lab.runs import LabRun

SHORT = os.environ.get("LAB") == "short"
full = pytest.mark.skipif(SHORT, reason="a row of the full lab: `make lab`")


@contextlib.contextmanager
def measured(fault: str, run: LabRun) -> Iterator[None]:
    """The fault happens in the block; waits for the first line that a later attempt logs, and notes how long it took."""
    before = run.attempts
    began = time.monotonic()
    yield
    wait_until(f"a step after: {fault}", 600, lambda: run.attempts > before, every=0.1)
    note(fault, time.monotonic() - began)


def note(fault: str, seconds: float) -> None:
    """One line of the file that LAB_FIGURES names."""
    if path := os.environ.get("LAB_FIGURES"):
        with Path(path).open("a", encoding="utf-8") as file:
            file.write(json.dumps({"fault": fault, "seconds": round(seconds, 1)}) + "\n")
