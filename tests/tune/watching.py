"""What tests see of a search that runs in a process of its own: its end, its record, its table, its processes."""

from __future__ import annotations

import contextlib
import csv
import json
import subprocess
import time
from pathlib import Path
from typing import Any

import psutil

from tests.lab.hosts import wait_until

LIMIT_S = 400
GONE_S = 30
OF_A_SEARCH = ("RayTrainWorker", "TrainController", "TrialLogbook", "Trainable")


def finished(process: subprocess.Popen[str], status: int = 0) -> str:
    try:
        output, _ = process.communicate(timeout=LIMIT_S)
    except subprocess.TimeoutExpired:
        process.kill()
        raise
    assert process.returncode == status, output
    return output


def table(run: Path) -> list[dict[str, str]]:
    with (run / "trials.csv").open() as file:
        return list(csv.DictReader(file))


def events(run: Path) -> list[dict[str, Any]]:
    path = run / "search.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def wait_for(run: Path, process: subprocess.Popen[str], trial: int, what: str, after: int = 0) -> dict[str, Any]:
    """The first line of the record, from the line `after` on, with this event of this trial."""
    deadline = time.monotonic() + LIMIT_S
    while time.monotonic() < deadline and process.poll() is None:
        for event in events(run)[after:]:
            if (event["event"], event["trial"]) == (what, trial):
                return event
        time.sleep(0.1)
    raise AssertionError(f"no {what}: {process.communicate(timeout=10)[0] if process.poll() is not None else ''}")


def wait_to_say(run: Path, process: subprocess.Popen[str], text: str) -> None:
    """Until the log of the search has this."""

    def heard() -> bool:
        assert process.poll() is None, f"ended without {text!r}"
        return text in (run / "log.txt").read_text()

    wait_until(f"the search to say {text!r}", LIMIT_S, heard)


def processes(*names: str) -> list[psutil.Process]:
    """Those of the tests' Ray whose title has one of `names`."""
    found = []
    for process in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.Error):
            title = " ".join(process.cmdline())
            if title.startswith("ray::") and any(name in title for name in names):
                found.append(process)
    return found


def gone(*names: str, most: int = 0) -> None:
    """Wait until no more than `most` of them, by default of all that a search has, are there: seconds."""
    deadline = time.monotonic() + GONE_S
    while len(left := processes(*(names or OF_A_SEARCH))) > most:
        assert time.monotonic() < deadline, left
        time.sleep(0.2)
