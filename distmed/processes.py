"""Processes of this host: fresh ones, since a fork of a process that has threads may hang, and they end with their parent."""

from __future__ import annotations

import multiprocessing
import os
import threading
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any


def stat(pid: int) -> list[str]:
    """Of a process of this host, from the third field on of Linux's /proc/PID/stat: its state first.

    Raises OSError where there is no such process.
    """
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()


def began(pid: int) -> int:
    """When a process of this host began, in clock ticks since the host did, by which a process id that came again is told.

    Unlike seconds since 1970 it stays the same when the clock is set. Raises OSError where there is no such process.
    """
    return int(stat(pid)[19])


def fresh_processes(count: int, start: Callable[..., None], *arguments: Any) -> ProcessPoolExecutor:
    """Each of them begins with `start(*arguments)`."""
    return ProcessPoolExecutor(count, multiprocessing.get_context("spawn"), _begin, (start, *arguments))


def _begin(start: Callable[..., None], *arguments: Any) -> None:
    threading.Thread(target=_end_with_parent, daemon=True).start()
    start(*arguments)


def _end_with_parent() -> None:
    """A driver that is killed cannot tell its processes to end."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
