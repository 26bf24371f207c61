"""The learning rate as a pure function of the step: warm-up, then cosine, linear or constant."""

from __future__ import annotations

import math

from distmed.recipe import Optimizer


def lr_factor(optimizer: Optimizer, step: int, total_steps: int) -> float:
    """What the peak learning rate is multiplied with at `step`, which counts from 1 to `total_steps`."""
    warmup = optimizer.warmup * total_steps if optimizer.warmup < 1 else optimizer.warmup
    if step <= warmup:
        return step / max(warmup, 1.0)
    if optimizer.schedule == "constant":
        return 1.0
    done = (step - warmup) / max(total_steps - warmup, 1)
    if optimizer.schedule == "linear":
        return max(0.0, 1.0 - done)
    return 0.5 * (1.0 + math.cos(math.pi * min(done, 1.0)))
