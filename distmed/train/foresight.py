"""Foresight: a recipe, a machine that is named or the one at hand, and the plan for both.

`distmed plan` prints it; `distmed train` asks before it launches, and refuses a run that has no hope of fitting.
"""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from distmed import session
from distmed.errors import UserError
from distmed.model.families import FAMILIES
from distmed.plan.devices import DEVICES, GIB, Device, Machine, cpu_host, parse_machine, with_flops
from distmed.plan.plan import Plan, make_plan
from distmed.plan.shapes import read_model_config
from distmed.recipe import Recipe
from distmed.train.deepspeed_config import resolve_config, wants_bf16
from distmed.train.hardware import measured_matmul_flops, native_bf16

if TYPE_CHECKING:
    from transformers import PreTrainedConfig

    from distmed.train.job import Job

# The prediction may be too high by so much.
HOPELESS = 1.15


def plan_recipe(recipe: Recipe, *, gpus: str | None = None, nodes: int = 1, price: float | None = None) -> Plan:
    """The plan on `nodes` hosts with `gpus` each (`8xH100-80`); without them, on the CPUs of hosts like this one.

    `price`: of one device for an hour. Raises UserError for a model, device or DeepSpeed file that is not there.
    """
    if nodes < 1:
        raise UserError(f"--nodes: {nodes} is no number of hosts", "give 1 or more")
    if price is not None and not 0 <= price < math.inf:
        raise UserError(f"--price: {price} is no price", "give what one device costs for an hour")
    config = read_model_config(recipe.model)
    bf16 = wants_bf16(recipe)
    if bf16 is None:
        bf16 = native_bf16(gpu=gpus is not None)
    machine = parse_machine(gpus, nodes) if gpus else this_host(recipe.cluster.most, nodes=nodes, bf16=bf16)
    return make_plan(recipe, config, _ds_config(recipe, config, machine, bf16=bf16), machine, price=price)


def refuse_hopeless(job: Job) -> str | None:
    """A line of advice where the run is tight, None where it fits, or where devices or architecture are not known here.

    Raises UserError where it does not fit, with the cheapest change that makes it.
    """
    from transformers import AutoConfig

    recipe = job.recipe
    config = AutoConfig.from_pretrained(str(job.model_folder), trust_remote_code=recipe.model.trust_remote_code)
    machines = _cluster(recipe.cluster.least, bf16=job.bf16)
    if not machines or config.model_type not in FAMILIES:
        return None

    def plan_on(machine: Machine) -> Plan:
        ds_config = _ds_config(recipe, config, machine, bf16=job.bf16)
        return make_plan(recipe, config, ds_config, machine, steps=job.total_steps)

    plan = plan_on(machines[0])
    if plan.verdict == "fits":
        return None
    need, most = plan.memory.device_total, machines[-1].device.memory
    # What hosts of GPUs have is taken from common servers, so nothing is refused for it.
    hopeless = need > HOPELESS * most
    if hopeless and len(machines) > 1:
        plan = plan_on(machines[-1])
    way = " ".join(plan.advice[0].changes) if plan.advice else "a smaller model or larger devices"
    there = " or ".join(f"{machine.device.memory / GIB:.1f}" for machine in machines)
    wants = f"a worker wants about {need / GIB:.1f} GiB of {there}"
    if not hopeless:
        return f"memory is tight: {wants}; it would fit with {way}"
    raise UserError(f"this run does not fit: {wants}", f"use {way}; distmed plan says more, --force starts it anyway")


def this_host(workers: int, *, nodes: int = 1, bf16: bool = False) -> Machine:
    """Hosts like this one, with its cores, its memory, and the speed of its matrix products."""
    import psutil

    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    machine = cpu_host(workers, cores, psutil.virtual_memory().total, nodes)
    return with_flops(machine, measured_matmul_flops(bf16=bf16) / machine.per_node)


def _cluster(workers: int, *, bf16: bool) -> list[Machine]:
    """The connected Ray's devices, as workers will be spread over them: one machine for each memory that devices of their
    name are sold with, smallest first. Empty where their kind is not in the table."""
    import ray

    nodes = [node for node in ray.nodes() if node["Alive"]]
    if not session.on_gpu():
        # What other hosts have is not known here.
        return [this_host(workers, bf16=bf16)] if len(nodes) == 1 else []
    slots = sorted((int(node["Resources"].get("GPU", 0)) for node in nodes), reverse=True)
    hosts = next((n for n in range(1, len(slots) + 1) if sum(slots[:n]) >= workers), 1)
    names = {
        key.removeprefix("accelerator_type:") for node in nodes for key in node["Resources"] if key.startswith("acc")
    }
    found = _devices_named(names.pop()) if len(names) == 1 else []
    return [Machine(device, -(-workers // hosts), hosts) for device in found]


def _devices_named(name: str) -> list[Device]:
    """Ray says A100 of any A100, H100, A100-80G: all that it may mean, the smallest memory first."""
    same = [key for key in DEVICES if key.split("-")[0] == name.upper().split("-")[0]]
    exact = [key for key in same if key.upper() == name.upper().removesuffix("G")]
    return sorted((DEVICES[key] for key in exact or same), key=lambda device: device.memory)


def _ds_config(recipe: Recipe, config: PreTrainedConfig, machine: Machine, *, bf16: bool) -> dict[str, Any]:
    hidden = config.get_text_config().hidden_size
    return resolve_config(
        recipe,
        world_size=machine.workers,
        per_host=machine.per_node,
        bf16=bf16,
        hidden_size=hidden,
        nvme_path=Path("nvme"),
    )
