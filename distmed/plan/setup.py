"""Setup: every knob that decides whether a run fits and how fast it goes, out of a recipe and its DeepSpeed file.

A recipe, the resolved DeepSpeed configuration and a machine flow in, a frozen `Setup` flows out; advice varies it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

from distmed.errors import UserError
from distmed.plan.devices import Machine
from distmed.recipe import Lora, Recipe

Place = Literal["none", "cpu", "nvme"]


@dataclass(frozen=True)
class Setup:
    """`micro_batch`: sequences a worker takes at once. `sharers`: workers that share the tokens of each. `overlap` to
    `sub_group` are DeepSpeed's, in elements; 0 where not used. `swap_buffers`: between optimizer and NVMe, each of the largest
    sub-group."""

    machine: Machine
    stage: int
    offload_optimizer: Place
    offload_param: Place
    bf16: bool
    micro_batch: int
    global_batch: int
    seq_len: int
    checkpointing: bool
    activations_on_host: bool
    sharers: int
    lora: Lora | None
    quantized: bool
    hpz: int
    overlap: bool
    bucket: int
    max_live: int
    sub_group: int
    swap_buffers: int
    store_frozen: bool

    @property
    def workers(self) -> int:
        return self.machine.workers

    @property
    def streams(self) -> int:
        """Groups of workers that have sequences of their own."""
        return max(self.workers // self.sharers, 1)

    @property
    def accumulation(self) -> int:
        """Micro-batches a worker runs for one optimizer step."""
        return math.ceil(math.ceil(self.global_batch / self.streams) / self.micro_batch)

    @property
    def rows(self) -> int:
        """Sequences of the largest micro-batch."""
        return min(self.micro_batch, math.ceil(self.global_batch / self.streams))

    @property
    def part(self) -> int:
        """Tokens that a worker has of each sequence."""
        return math.ceil(self.seq_len / self.sharers)

    @property
    def bytes(self) -> int:
        """Of one weight while it computes."""
        return 2 if self.bf16 else 4


def setup_of(recipe: Recipe, config: dict[str, Any], machine: Machine) -> Setup:
    """Raises UserError where the machine has more devices than the global batch has sequences, or they do not divide."""
    sharers = recipe.cluster.sequence_parallel
    if machine.workers % sharers:
        raise UserError(
            f"{machine.workers} devices cannot share sequences by {sharers}",
            "plan for a multiple of cluster.sequence_parallel devices",
        )
    streams = machine.workers // sharers
    if streams > recipe.train.global_batch:
        raise UserError(
            f"{machine.workers} devices share train.global_batch={recipe.train.global_batch} sequences",
            f"set train.global_batch={streams} or more, or plan for fewer devices",
        )
    zero = config.get("zero_optimization", {})
    return Setup(
        machine=machine,
        stage=int(zero.get("stage", 0)),
        offload_optimizer=zero.get("offload_optimizer", {}).get("device", "none"),
        offload_param=zero.get("offload_param", {}).get("device", "none"),
        bf16=bool(config.get("bf16", {}).get("enabled", False)),
        micro_batch=recipe.train.micro_batch,
        global_batch=recipe.train.global_batch,
        seq_len=recipe.data.seq_len,
        checkpointing=bool(recipe.train.activation_checkpointing),
        activations_on_host=recipe.train.activation_checkpointing == "offload" and not machine.device.is_cpu,
        sharers=sharers,
        lora=recipe.model.lora,
        quantized=recipe.model.quantize is not None,
        hpz=int(zero.get("zero_hpz_partition_size", 1)),
        overlap=bool(zero.get("overlap_comm", False)),
        bucket=int(zero.get("reduce_bucket_size", 500_000_000)),
        max_live=int(zero.get("stage3_max_live_parameters", 1_000_000_000)),
        sub_group=int(zero.get("sub_group_size", 1_000_000_000)),
        swap_buffers=int(zero.get("offload_optimizer", {}).get("buffer_count", 4)),
        store_frozen=recipe.model.init == "random",
    )
