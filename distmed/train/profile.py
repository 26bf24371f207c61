"""The profiler of `train.profile`: a PyTorch trace and a memory snapshot of every rank, over a few steps.

Step numbers flow in, files in `runs/NAME/profile/` flow out: the trace for Perfetto or chrome://tracing, the snapshot for
pytorch.org/memory_viz (GPU) or as a timeline in JSON (CPU).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from distmed.recipe import Profile


class Profiler:
    """Watches steps `first` to `last - 1` of this rank; does nothing where the recipe does not ask for it."""

    def __init__(self, profile: Profile | None, folder: Path, rank: int, device: torch.device) -> None:
        self._first, self._last = profile.steps if profile else (0, 0)
        self._folder = folder
        self._rank = rank
        self._gpu = device.type == "cuda"
        self._running: Any = None

    def step_begins(self, number: int) -> None:
        if number != self._first or self._first == self._last:
            return
        from torch.profiler import ProfilerActivity, profile

        kinds = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if self._gpu else [])]
        # A memory timeline on CPU is derived from shapes and stacks.
        self._running = profile(activities=kinds, record_shapes=True, profile_memory=True, with_stack=not self._gpu)
        if self._gpu:
            torch.cuda.memory._record_memory_history(max_entries=200_000)
        self._running.start()

    def step_done(self, number: int) -> None:
        if self._running is None or number + 1 < self._last:
            return
        self._running.stop()
        self._folder.mkdir(parents=True, exist_ok=True)
        self._running.export_chrome_trace(str(self._folder / f"trace-{self._rank:05d}.json.gz"))
        if self._gpu:
            torch.cuda.memory._dump_snapshot(str(self._folder / f"memory-{self._rank:05d}.pickle"))
            torch.cuda.memory._record_memory_history(enabled=None)
        else:
            self._running.export_memory_timeline(str(self._folder / f"memory-{self._rank:05d}.json.gz"), device="cpu")
        self._running = None
