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
    """`micro_batch`: sequences a worker takes at once. The last four are DeepSpeed's, in elements; 0 where not used."""

    machine: Machine
    stage: int
    offload_optimizer: Place
    offload_param: Place
    bf16: bool
    micro_batch: int
    global_batch: int
    seq_len: int
    checkpointing: bool
    lora: Lora | None
    hpz: int
    overlap: bool
    bucket: int
    max_live: int
    sub_group: int
    store_frozen: bool

    @property
    def workers(self) -> int:
        return self.machine.workers

    @property
    def accumulation(self) -> int:
        """Micro-batches a worker runs for one optimizer step."""
        return math.ceil(math.ceil(self.global_batch / self.workers) / self.micro_batch)

    @property
    def rows(self) -> int:
        """Sequences of the largest micro-batch."""
        return min(self.micro_batch, math.ceil(self.global_batch / self.workers))

    @property
    def bytes(self) -> int:
        """Of one weight while it computes."""
        return 2 if self.bf16 else 4


def setup_of(recipe: Recipe, config: dict[str, Any], machine: Machine) -> Setup:
    """Raises UserError where the machine has more devices than the global batch has sequences."""
    if machine.workers > recipe.train.global_batch:
        raise UserError(
            f"{machine.workers} devices share train.global_batch={recipe.train.global_batch} sequences",
            f"set train.global_batch={machine.workers} or more, or plan for fewer devices",
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
        lora=recipe.model.lora,
        hpz=int(zero.get("zero_hpz_partition_size", 1)),
        overlap=bool(zero.get("overlap_comm", False)),
        bucket=int(zero.get("reduce_bucket_size", 500_000_000)),
        max_live=int(zero.get("stage3_max_live_parameters", 1_000_000_000)),
        sub_group=int(zero.get("sub_group_size", 1_000_000_000)),
        store_frozen=recipe.model.init == "random",
    )
