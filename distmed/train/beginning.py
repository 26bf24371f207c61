"""The start of a run that comes to nothing: what it made is taken away again, but not what took long to make.

A run directory flows in before anything is written to it, and is left as it was found.
"""

from __future__ import annotations

import contextlib
import shutil
import time

from distmed.rundir import RunDir
from distmed.train.lock import RunLock
from distmed.train.progress import Progress

# What is counted in less time is counted again.
KEEP_COUNTS_S = 60.0


class Beginning:
    """What a start makes before its workers train, taken away again where it comes to nothing; long counts stay."""

    def __init__(self, run_dir: RunDir) -> None:
        self.run_dir = run_dir
        self.there = set(run_dir.path.iterdir()) if run_dir.path.exists() else set()
        self.began = time.monotonic()

    def undo(self, lock: RunLock, progress: Progress) -> None:
        """Of a run that was there before, and of what a user has in its folder, nothing is taken; nor from another driver."""
        if not lock.is_mine():
            return
        keep = {*self.there, self.run_dir.lock}
        if any(self.run_dir.data.glob("tokens-*")) and time.monotonic() - self.began > KEEP_COUNTS_S:
            keep.add(self.run_dir.data)
            progress.note(f"what was counted stays in {self.run_dir.data}: the next start of this run goes on from it")
        for path in self.run_dir.path.iterdir():
            if path in keep:
                continue
            if path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink(missing_ok=True)
        if not self.there:
            self.run_dir.lock.unlink(missing_ok=True)
            with contextlib.suppress(OSError):
                self.run_dir.path.rmdir()
