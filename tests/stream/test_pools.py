"""Processes that count: when the driver or one of them is killed, nothing is left behind, and a person hears of it."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from distmed.errors import UserError
from distmed.stream.pools import pool


@pytest.mark.slow
def test_a_killed_driver_leaves_no_counting_process() -> None:
    script = (
        "import time\n"
        "from distmed.processes import fresh_processes\n"
        "from distmed.stream.pools import _start_process\n"
        "if __name__ == '__main__':\n"
        "    pool = fresh_processes(2, _start_process, None)\n"
        "    list(pool.map(abs, range(8)))\n"
        "    print(*pool._processes, flush=True)\n"
        "    time.sleep(60)\n"
    )
    driver = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    assert driver.stdout is not None
    children = [int(pid) for pid in driver.stdout.readline().split()]
    assert children and all(_alive(pid) for pid in children)
    driver.send_signal(signal.SIGKILL)
    driver.wait()
    deadline = time.monotonic() + 10
    while any(map(_alive, children)) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not any(map(_alive, children))


def _dies(_: None, number: int) -> int:
    if number == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    return number


@pytest.mark.slow
def test_a_killed_counting_process_is_told_and_leaves_no_other() -> None:
    with pytest.raises(UserError, match="a process that counts tokens was killed"), pool(None, 2) as workers:
        list(workers.map(_dies, range(100)))
    assert not multiprocessing.active_children()


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
