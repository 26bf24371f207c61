"""Plan: the verdict on a recipe and a machine before anything is launched.

A recipe, its resolved DeepSpeed configuration, the model's config and a machine flow in; memory by part, speed, cost, disk
and advice flow out. Nothing is allocated, downloaded or started but a small config.json.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal

from distmed.errors import UserError
from distmed.plan.changes import Advice, advise
from distmed.plan.devices import Machine
from distmed.plan.memory import Memory, checkpoint_bytes, checkpoints_at_once, memory_of
from distmed.plan.setup import Setup, setup_of
from distmed.plan.shapes import Shape, shape_of
from distmed.plan.speed import DAY_S, Speed, speed_of
from distmed.recipe import Recipe

if TYPE_CHECKING:
    from transformers import PreTrainedConfig

Verdict = Literal["fits", "tight", "does not fit"]
# The prediction's error, measured by benchmarks/plan.py, stays within this share of what is there.
TIGHT_FROM = 0.85
HOUR_S = 3600


@dataclass(frozen=True)
class Plan:
    """`steps`: of the whole run, None where the recipe leaves that to the data. `price`: for one device and hour."""

    recipe: Recipe
    shape: Shape
    setup: Setup
    memory: Memory
    speed: Speed
    verdict: Verdict
    advice: list[Advice]
    disk: dict[str, int]
    steps: int | None
    price: float | None

    @property
    def days(self) -> float | None:
        return None if self.steps is None else self.steps * self.speed.step_s / DAY_S

    def cost(self, tokens: float) -> float | None:
        """Of so many tokens, in the currency of `price`."""
        if self.price is None:
            return None
        return self.price * self.setup.workers * tokens / self.speed.tokens_per_s / HOUR_S

    def to_dict(self) -> dict[str, Any]:
        """What `--json` prints: bytes, seconds, and the names of this package."""
        device, machine = self.setup.machine.device, self.setup.machine
        total = None if self.steps is None else self.steps * self.speed.tokens
        return {
            "verdict": self.verdict,
            "devices": {"name": device.name, "per_host": machine.per_node, "hosts": machine.nodes},
            "parameters": {
                "total": self.shape.total,
                "trainable": self.shape.trainable,
                "largest_layer": self.shape.largest_layer,
            },
            "device": {"parts": self.memory.device, "total": self.memory.device_total, "capacity": device.memory},
            "fullest": self.memory.moment,
            "host": {"parts": self.memory.host, "total": self.memory.host_total, "capacity": machine.host_memory},
            "disk": self.disk,
            "step": {
                "seconds": self.speed.step_s,
                "compute_s": self.speed.compute_s,
                "network_s": self.speed.network_s,
                "storage_s": self.speed.storage_s,
                "network_bytes": self.speed.network_bytes,
                "tokens": self.speed.tokens,
                "accumulation": self.setup.accumulation,
            },
            "tokens_per_s": self.speed.tokens_per_s,
            "tokens_per_day": self.speed.tokens_per_day,
            "mfu": self.speed.mfu,
            "steps": self.steps,
            "days": self.days,
            "cost": None if total is None else self.cost(total),
            "cost_per_billion_tokens": self.cost(1e9),
            "advice": [{"changes": advice.changes, "relative_cost": advice.cost} for advice in self.advice],
            "setup": {key: value for key, value in asdict(self.setup).items() if key not in ("machine", "lora")},
        }


def make_plan(
    recipe: Recipe,
    config: PreTrainedConfig,
    ds_config: dict[str, Any],
    machine: Machine,
    *,
    steps: int | None = None,
    price: float | None = None,
) -> Plan:
    """Judge the recipe on `machine`; advice is sought unless it fits."""
    setup = setup_of(recipe, ds_config, machine)

    def shape(wanted: Setup) -> Shape:
        return shape_of(
            config,
            recipe,
            bf16=wanted.bf16,
            lora=wanted.lora,
            checkpointing=wanted.checkpointing,
            seq_len=wanted.part,
        )

    def fits(wanted: Setup) -> bool:
        try:
            return judge(memory_of(shape(wanted), wanted), wanted.machine) == "fits"
        except UserError:
            # Not every architecture can take every change, as adapters on all linear layers.
            return False

    def seconds_per_token(wanted: Setup) -> float:
        return 1 / speed_of(shape(wanted), wanted).tokens_per_s

    memory = memory_of(shape(setup), setup)
    verdict = judge(memory, machine)
    each = checkpoint_bytes(shape(setup), setup)
    export = setup.bytes * shape(setup).total
    at_once = checkpoints_at_once(recipe.checkpoint.keep, machine.workers)
    return Plan(
        recipe=recipe,
        shape=shape(setup),
        setup=setup,
        memory=memory,
        speed=speed_of(shape(setup), setup),
        verdict=verdict,
        advice=[] if verdict == "fits" else advise(setup, fits, seconds_per_token),
        disk={"checkpoint": each, "kept": each * at_once, "export": export, "nvme": _nvme(shape(setup), setup)},
        steps=steps if steps is not None else recipe.train.max_steps,
        price=price,
    )


def judge(memory: Memory, machine: Machine) -> Verdict:
    """By the fuller of device and host."""
    used = max(memory.device_total / machine.device.memory, memory.host_total / machine.host_memory)
    if used > 1:
        return "does not fit"
    return "fits" if used <= TIGHT_FROM else "tight"


def _nvme(shape: Shape, setup: Setup) -> int:
    optimizer = 16 * shape.trainable if setup.offload_optimizer == "nvme" else 0
    return optimizer + (setup.bytes * shape.total if setup.offload_param == "nvme" else 0)
