"""A job that may be started more than once: `python -m distmed.cluster.again train|tune [RECIPE] [key=value …]`.

The words of `distmed` flow in; it is started with them, and with `--resume` where the run is there. KubeRay starts a job whose
head was lost once more, by the entrypoint that it was given first.
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

from distmed.cluster.launch import recipe_of
from distmed.errors import mistakes_told
from distmed.train.driver import run_folder
from distmed.train.lock import STALE_S, is_alive, read_owner

# The lock of a driver that died on another host is taken over when it is so old, and not before.
PATIENCE_S = STALE_S + 5.0


def command(words: list[str]) -> list[str]:
    """`words`, with `--resume` if the run is there; raises UserError as `distmed train` would."""
    there = run_folder(recipe_of(words[1:]).name).recipe.exists()
    return [*words, "--resume"] if there and "--resume" not in words else words


def wait_for_dead_driver(lock: Path) -> None:
    """Until the lock is free or its owner seems dead; one that lives is refused by `distmed` itself."""
    deadline = time.monotonic() + PATIENCE_S
    while (owner := read_owner(lock)) and is_alive(owner, lock) and time.monotonic() < deadline:
        time.sleep(1.0)


def main() -> None:
    with mistakes_told():
        wait_for_dead_driver(run_folder(recipe_of(sys.argv[2:]).name).lock)
        words = command(sys.argv[1:])
    os.execv(sys.executable, [sys.executable, "-m", "distmed", *words])


if __name__ == "__main__":
    main()
