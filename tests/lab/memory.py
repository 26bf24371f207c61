"""Files in shared memory, which outlive the processes that made them unless somebody takes them away."""

from __future__ import annotations

import re
from pathlib import Path

from tests.lab.hosts import run


def shared_memory() -> set[str]:
    return {path.name for path in Path("/dev/shm").iterdir()}


def orphans(names: set[str]) -> list[str]:
    """Those of these files in shared memory that no process has mapped or open."""
    held: set[str] = set()
    if names:
        held = set(re.findall(r"/dev/shm/(\S+)", run("sh", "-c", "cat /proc/[0-9]*/maps", check=False).stdout))
    return sorted(names - held)
