"""The meter: how fast a run goes, how much of the hardware it uses, and what it waits for.

The loop tells it when data arrived, when a step was done and what interrupted it; rates over the last logged steps and
a summary of the run flow out. It reads clocks only: the loop has read the loss before, which waits for the device.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import torch.distributed as dist
from torch import nn

from distmed.model.experts import multiplied
from distmed.model.layers import attention_widths
from distmed.recipe import Recipe

if TYPE_CHECKING:
    from distmed.model.diagnoser import Diagnoser

GIB = 2**30
STATUS = Path("/proc/self/status")


@dataclass(frozen=True)
class Timed:
    """One optimizer step: seconds in all, how many of them waiting for data, and the checkpoint's stall before it."""

    seconds: float
    data_wait_s: float
    stall_s: float
    tokens: int
    flops: float


class Meter:
    """Measures on this worker; tokens are those of the global batch, and only memory is compared between workers.

    `peak_flops` is that of one worker's device, None if unknown: then there is no MFU. The first step, in which kernels
    are compiled and buffers allocated, is reported as warm-up and counts in no rate once there is a second one.
    """

    def __init__(
        self,
        model: Diagnoser,
        recipe: Recipe,
        *,
        world_size: int,
        peak_flops: float | None,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._flops = FlopCount(model, recipe.data.seq_len)
        self._world_size = world_size
        self._peak_flops = peak_flops
        self._clock = clock
        self._window: deque[Timed] = deque(maxlen=recipe.train.log_every)
        self._warm_up: Timed | None = None
        self._steps = 0
        self._total = Timed(0, 0, 0, 0, 0)
        self._stall_s = 0.0
        self._memory: dict[str, float] = {}
        self._idle_since = self._data_since = clock()

    def data_arrived(self) -> None:
        """The stream has handed over the batches of a step: what passed since the last step was waiting for them."""
        self._data_since = self._clock()

    def step_done(self, tokens: int, cases: int | None = None) -> None:
        """A step over `tokens` real tokens of `cases` cases (of the global batch) has ended, its loss has been read."""
        now = self._clock()
        step = Timed(
            seconds=now - self._idle_since,
            data_wait_s=self._data_since - self._idle_since,
            stall_s=self._stall_s,
            tokens=tokens,
            flops=self._flops.of(tokens, cases),
        )
        self._idle_since, self._stall_s = now, 0.0
        self._steps += 1
        if self._warm_up is None:
            self._warm_up = step
        else:
            if self._steps == 2:
                self._window.clear()
            self._total = _sum([self._total, step])
        self._window.append(step)

    def checkpoint_stalled(self, seconds: float) -> None:
        """The loop stood still for so long after the last step, for a checkpoint: no part of the next step."""
        self._idle_since += seconds
        self._stall_s += seconds

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Time in here (an evaluation) belongs to no step."""
        started = self._clock()
        try:
            yield
        finally:
            self._idle_since += self._clock() - started

    def rates(self) -> dict[str, float]:
        """`perf/*` over the last `log_every` steps: means a step, but checkpoint stall in all. Empty before a step."""
        if not self._window:
            return {}
        steps, total = len(self._window), _sum(list(self._window))
        tokens_per_s = total.tokens / total.seconds
        rates = {
            "perf/tokens_per_s": tokens_per_s,
            "perf/tokens_per_s_per_worker": tokens_per_s / self._world_size,
            "perf/step_time_s": total.seconds / steps,
            "perf/data_wait_s": total.data_wait_s / steps,
            "perf/checkpoint_stall_s": total.stall_s,
        }
        mfu = self._mfu(total)
        return rates if mfu is None else {**rates, "perf/mfu": mfu}

    def memory(self, device: torch.device) -> dict[str, float]:
        """`mem/*` of the largest worker, in GiB, at the highest so far. A collective: every worker calls it."""
        on_gpu = device.type == "cuda"
        peaks = torch.tensor(
            [host_peak_bytes(), torch.cuda.max_memory_reserved(device) if on_gpu else 0],
            dtype=torch.float64,
            device=device,
        )
        if dist.is_initialized():
            dist.all_reduce(peaks, op=dist.ReduceOp.MAX)
        host, on_device = (value / GIB for value in peaks.tolist())
        self._memory = {"mem/host_peak_gib": host, **({"mem/device_peak_gib": on_device} if on_gpu else {})}
        return self._memory

    def summary(self) -> dict[str, Any]:
        """The run so far without its warm-up, for summary.json; None where nothing was measured."""
        total = self._total if self._steps > 1 else self._warm_up
        return {
            "tokens_per_s": total.tokens / total.seconds if total else None,
            "mfu": self._mfu(total) if total else None,
            "warm_up_s": self._warm_up.seconds if self._warm_up else None,
            "data_wait_s": self._total.data_wait_s,
            "checkpoint_stall_s": self._total.stall_s + self._stall_s,
            "device_peak_gib": self._memory.get("mem/device_peak_gib"),
            "host_peak_gib": self._memory.get("mem/host_peak_gib"),
        }

    def _mfu(self, total: Timed) -> float | None:
        if not self._peak_flops:
            return None
        return total.flops / total.seconds / (self._world_size * self._peak_flops)


class FlopCount:
    """Floating-point operations that training needs for a token (PaLM, appendix B, arXiv:2204.02311).

    6 N for the matrix products, forward and backward, where N counts all parameters but embeddings and the output layer (which
    runs at the target tokens only), and of experts those that a token is sent to; 2 of the 6 are gradients of weights, counted
    for those that are trained.
    Attention adds 12 x (heads x head size) x attended length, in each layer. Recomputed activations do not count.
    """

    def __init__(self, model: Diagnoser, seq_len: int) -> None:
        network = model.network
        skipped = {
            id(weight)
            for module in model.modules()
            if isinstance(module, nn.Embedding)
            for weight in module.parameters()
        }
        output = network.get_output_embeddings()
        if output is not None:
            skipped |= {id(weight) for weight in output.parameters()}
        counted = [
            (multiplied(_numel(p), getattr(p, "ds_shape", p.shape), network.config), p.requires_grad)
            for p in model.parameters()
            if id(p) not in skipped
        ]
        self.weights = sum(4 * n + (2 * n if trained else 0) for n, trained in counted)
        self.attention_per_length = 12 * sum(attention_widths(network.config))
        self.seq_len = seq_len

    def of(self, tokens: int, cases: int | None) -> float:
        """Of one step. A token attends to its own case only: the mean case is a lower bound, seq_len an upper one."""
        length = tokens / cases if cases else self.seq_len
        return tokens * (self.weights + self.attention_per_length * length)


def host_peak_bytes() -> int:
    """The largest resident memory that this process ever had."""
    if STATUS.exists():
        for line in STATUS.read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    import psutil

    return int(psutil.Process().memory_info().rss)


def _numel(parameter: nn.Parameter) -> int:
    """Under ZeRO-3 a parameter is an empty vector, and `ds_numel` tells how large it is when gathered; one in 4 bits says
    how many weights it stands for."""
    return int(getattr(parameter, "stands_for", getattr(parameter, "ds_numel", parameter.numel())))


def _sum(steps: list[Timed]) -> Timed:
    return Timed(
        seconds=sum(step.seconds for step in steps),
        data_wait_s=sum(step.data_wait_s for step in steps),
        stall_s=sum(step.stall_s for step in steps),
        tokens=sum(step.tokens for step in steps),
        flops=sum(step.flops for step in steps),
    )
