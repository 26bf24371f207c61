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

LIMIT_S = 900


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


def wait_for(run: Path, what: str, process: subprocess.Popen[str]) -> dict[str, Any]:
    """The first line of the record with this event."""
    deadline = time.monotonic() + LIMIT_S
    while time.monotonic() < deadline and process.poll() is None:
        if (run / "search.jsonl").exists():
            for line in (run / "search.jsonl").read_text().splitlines():
                if json.loads(line)["event"] == what:
                    return json.loads(line)
        time.sleep(0.2)
    raise AssertionError(f"no {what}: {process.communicate(timeout=10)[0] if process.poll() is not None else ''}")


def processes(folder: Path, name: str) -> list[psutil.Process]:
    """Those of this test's Ray whose title has `name`: they stay in the folder that the search was started in."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if name in " ".join(process.cmdline()) and Path(process.cwd()) == folder:
                found.append(process)
    return found
