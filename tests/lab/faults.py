"""What the faults of the lab cost: seconds from the fault to the next step, kept for the table that `make lab` writes."""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Iterator
from pathlib import Path

from tests.lab.hosts import wait_until
from tests.lab.runs import LabRun


@contextlib.contextmanager
def measured(fault: str, run: LabRun) -> Iterator[None]:
    """The fault happens in the block; waits for the first line that a later attempt logs, and notes how long it took."""
    before = run.attempts
    began = time.monotonic()
    yield
    wait_until(f"a step after: {fault}", 240, lambda: run.attempts > before, every=0.1)
    note(fault, time.monotonic() - began)


def note(fault: str, seconds: float) -> None:
    """One line of the file that LAB_FIGURES names."""
    if path := os.environ.get("LAB_FIGURES"):
        with Path(path).open("a", encoding="utf-8") as file:
            file.write(json.dumps({"fault": fault, "seconds": round(seconds, 1)}) + "\n")
