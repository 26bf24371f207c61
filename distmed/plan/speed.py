"""How long a step takes: a roofline of arithmetic, links between devices and hosts, and storage.

A `Shape` and a `Setup` flow in, a `Speed` flows out. Operations are counted as the meter of a run counts them
(Chowdhery et al. 2022, arXiv:2204.02311, appendix B).
"""

from __future__ import annotations

from dataclasses import dataclass

from distmed.plan.setup import Setup
from distmed.plan.shapes import Shape

DAY_S = 86_400
# Share of its peak that a device keeps up through a whole step: MPT-7B on 8 x H100, 2,048 tokens, 10,643 tokens/s a GPU
# (mosaicml/llm-foundry, scripts/train/benchmarking); benchmarks/plan_published.py lists what it gives elsewhere.
EFFICIENCY = {"gpu": 0.46, "cpu": 0.5}
# Share of a link's peak that collectives reach.
LINK_EFFICIENCY = 0.7
# Adam reads and writes 16 bytes a weight and reads its gradient; a host does so at this many bytes a second for a device.
CPU_ADAM_BANDWIDTH = 15e9


@dataclass(frozen=True)
class Speed:
    """Of one optimizer step: seconds by cause and in all, bytes a device sends, tokens, and what comes of them."""

    compute_s: float
    network_s: float
    storage_s: float
    step_s: float
    network_bytes: int
    tokens: int
    flops: float
    mfu: float

    @property
    def tokens_per_s(self) -> float:
        return self.tokens / self.step_s

    @property
    def tokens_per_day(self) -> float:
        return self.tokens_per_s * DAY_S


def flops_per_token(shape: Shape, seq_len: int) -> float:
    """6 N, or 4 N for frozen weights, and 12 x layers x width x length for attention."""
    weights = 4 * shape.multiplied + 2 * shape.multiplied_trainable
    return weights + 12 * shape.layers * shape.attention_width * seq_len


def speed_of(shape: Shape, setup: Setup) -> Speed:
    """All sequences are taken to be full: packing fills them to 98 % or so."""
    machine, device = setup.machine, setup.machine.device
    tokens = setup.global_batch * setup.seq_len
    flops = tokens * flops_per_token(shape, setup.seq_len)
    # A forward pass is repeated; the loss does so for the output layer alone.
    forward = 2 * shape.multiplied + 4 * shape.layers * shape.attention_width * setup.seq_len
    done = flops + tokens * (forward if setup.checkpointing else 0)
    done += 2 * tokens * (shape.head if shape.vocabulary else 0)
    peak = device.bf16_flops if setup.bf16 else device.fp32_flops
    compute_s = done / (machine.workers * peak * EFFICIENCY["cpu" if device.is_cpu else "gpu"])
    network_bytes = traffic(shape, setup)
    # What comes from other hosts enters a host once, through the network of all its devices, and goes on by their links.
    slowest = device.link
    if machine.nodes > 1 and not _stays_in_host(setup):
        slowest = min(device.link, device.network * machine.per_node)
    network_s = network_bytes / (slowest * LINK_EFFICIENCY) if machine.workers > 1 else 0.0
    storage_s = _offload_seconds(shape, setup)
    # DeepSpeed's communication hides behind arithmetic where it may overlap; on a CPU both want the same cores.
    hides = setup.overlap and not device.is_cpu
    working_s = max(compute_s, network_s) if hides else compute_s + network_s
    step_s = working_s + storage_s
    return Speed(
        compute_s=compute_s,
        network_s=network_s,
        storage_s=storage_s,
        step_s=step_s,
        network_bytes=network_bytes,
        tokens=tokens,
        flops=flops,
        mfu=flops / step_s / (machine.workers * peak),
    )


def _stays_in_host(setup: Setup) -> bool:
    return setup.stage == 3 and 1 < setup.hpz <= setup.machine.per_node


def _passes(setup: Setup) -> int:
    """Over the weights, for each micro-batch: recomputation is one more."""
    return 3 if setup.checkpointing else 2


def traffic(shape: Shape, setup: Setup) -> int:
    """Bytes that a device sends for one optimizer step.

    Stage 3 gathers all weights in both passes of each micro-batch and reduces the gradients of each; stages 1 and 2 reduce
    gradients (stage 2 in each micro-batch) and gather the new weights once; stage 0 all-reduces.
    """
    others = (setup.workers - 1) / setup.workers
    weights, gradients = setup.bytes * shape.total, setup.bytes * shape.trainable
    if setup.stage == 3:
        moved = setup.accumulation * (_passes(setup) * weights + gradients)
    elif setup.stage == 2:
        moved = setup.accumulation * gradients + gradients
    else:
        moved = 2 * gradients
    return int(moved * others + _exchanged(shape, setup))


def _exchanged(shape: Shape, setup: Setup) -> float:
    """Queries, keys, values and what attention gives, of the tokens of this worker, in each pass (Ulysses)."""
    numbers = 4 * shape.layers * shape.attention_width * setup.rows * setup.part * setup.accumulation * _passes(setup)
    return setup.bytes * numbers * (setup.sharers - 1) / setup.sharers


def _offload_seconds(shape: Shape, setup: Setup) -> float:
    """The step of an offloaded optimizer stands alone, with the way of gradients to the host and of weights to the device;
    NVMe reads and writes masters and both moments. Each worker moves its share, and gathers the others' from their devices.
    """
    device, share = setup.machine.device, shape.trainable / setup.workers
    weights = _passes(setup) * setup.accumulation * setup.bytes * shape.total / setup.workers
    bus = device.bus * LINK_EFFICIENCY
    seconds = 0.0
    if setup.offload_optimizer != "none":
        seconds += 28 * share / CPU_ADAM_BANDWIDTH + setup.accumulation * setup.bytes * share / bus
    if setup.offload_optimizer == "nvme":
        seconds += 2 * 16 * share * setup.machine.per_node / device.storage
    if setup.offload_param == "nvme":
        seconds += weights * setup.machine.per_node / device.storage
    elif setup.offload_param == "cpu":
        seconds += weights / bus
    return seconds
