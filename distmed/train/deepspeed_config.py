"""The DeepSpeed JSON of a run: read, filled in where it says "auto", and held against the recipe.

A name in `ds_configs/` or a user's own file flows in, a plain dict that every worker hands to `deepspeed.initialize` flows out.
Nothing here imports deepspeed, so the driver finds a contradiction before any worker starts.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

from distmed import shipped
from distmed.errors import UserError
from distmed.recipe import Recipe

AUTO = "auto"
SECTIONS = (
    ("bf16",),
    ("fp16",),
    ("zero_optimization",),
    ("zero_optimization", "offload_optimizer"),
    ("zero_optimization", "offload_param"),
    ("optimizer",),
    ("optimizer", "params"),
    ("scheduler",),
    ("scheduler", "params"),
)


def resolve_config(
    recipe: Recipe, *, world_size: int, bf16: bool, hidden_size: int, nvme_path: Path, per_host: int | None = None
) -> dict[str, Any]:
    """The configuration with every "auto" decided by the recipe. `per_host`: how many workers share a host, None for all.

    Raises UserError where the file is missing, is no JSON, or contradicts the recipe (both values are named).
    """
    config = read_config(recipe.deepspeed)
    _drop_what_the_recipe_decides(config, recipe)
    _fill(config, "train_micro_batch_size_per_gpu", recipe.train.micro_batch, "train.micro_batch")
    _fill(config, "gradient_accumulation_steps", accumulation_steps(recipe, world_size), "train.global_batch")
    _fill(config, "gradient_clipping", recipe.optimizer.max_grad_norm or 0.0, "optimizer.max_grad_norm")
    bf16_section = config.setdefault("bf16", {})
    if bf16_section.get("enabled", AUTO) not in (AUTO, bf16):
        raise _contradiction("bf16.enabled", bf16_section["enabled"], "train.precision", recipe.train.precision)
    bf16_section["enabled"] = bf16
    if config.get("fp16", {}).get("enabled") is True:
        raise UserError(
            f"{recipe.deepspeed}: fp16 is enabled, the recipe trains in bf16 or fp32", "remove the fp16 section"
        )
    config.pop("fp16", None)
    _fill_zero(config.setdefault("zero_optimization", {"stage": 3}), per_host or world_size, hidden_size, nvme_path)
    if recipe.model.quantize is not None and config["zero_optimization"].get("stage", 0) == 3:
        raise UserError(
            "model.quantize: under ZeRO stage 3 each worker would still hold the whole 4-bit base",
            "set deepspeed=zero2, or leave model.quantize out: stage 3 shares the base among the workers",
        )
    config.setdefault("zero_allow_untested_optimizer", True)
    config.setdefault("steps_per_print", 10**9)
    left = _autos(config)
    if left:
        raise UserError(f'{recipe.deepspeed}: nothing decides "auto" for {", ".join(left)}', "write a value there")
    return config


def wants_bf16(recipe: Recipe) -> bool | None:
    """What the recipe says of bf16 or, where it leaves that open, the DeepSpeed file; None if the hardware decides."""
    if recipe.train.precision != "auto":
        return recipe.train.precision == "bf16"
    said = read_config(recipe.deepspeed).get("bf16", {}).get("enabled", AUTO)
    return None if said == AUTO else bool(said)


def accumulation_steps(recipe: Recipe, world_size: int) -> int:
    """Micro-batches a worker runs for one optimizer step: ceil(ceil(B / W) / micro), where W counts those that share a
    sequence once."""
    streams = max(world_size // recipe.cluster.sequence_parallel, 1)
    return math.ceil(math.ceil(recipe.train.global_batch / streams) / recipe.train.micro_batch)


def read_config(name: str) -> dict[str, Any]:
    """A file of ds_configs/ by its name, or any by its path, as it is. Raises UserError if it holds no configuration."""
    path = Path(name) if name.endswith(".json") else shipped.folder("ds_configs") / f"{name}.json"
    if not path.is_file():
        known = ", ".join(sorted(p.stem for p in shipped.folder("ds_configs").glob("*.json")))
        raise UserError(f"deepspeed: no such configuration: {name}", f"use one of {known}, or the path of a .json file")
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise UserError(f"{path} is no JSON: {error}", "mend the file at that place") from error
    if not isinstance(config, dict):
        raise UserError(f"{path} holds no DeepSpeed configuration", "it must be a JSON object")
    for *above, section in SECTIONS:
        within = config
        for name in above:
            within = within.get(name, {})
        if not isinstance(within.get(section, {}), dict):
            whole = ".".join([*above, section])
            raise UserError(f"{path}: {whole} is no section", f'write "{section}": {{…}}, or leave it out')
    return config


def _drop_what_the_recipe_decides(config: dict[str, Any], recipe: Recipe) -> None:
    """The batch, the optimizer and the schedule are the recipe's; a file may name them, with "auto" or the same values."""
    total = config.pop("train_batch_size", AUTO)
    if total not in (AUTO, recipe.train.global_batch):
        raise _contradiction("train_batch_size", total, "train.global_batch", recipe.train.global_batch)
    optimizer = config.pop("optimizer", None)
    if optimizer:
        if str(optimizer.get("type", "AdamW")).lower() not in ("adamw", "adam"):
            raise _contradiction("optimizer.type", optimizer["type"], "optimizer.name", recipe.optimizer.name)
        mine = {
            "lr": recipe.optimizer.lr,
            "weight_decay": recipe.optimizer.weight_decay,
            "betas": list(recipe.optimizer.betas),
            "eps": recipe.optimizer.eps,
        }
        for key, value in optimizer.get("params", {}).items():
            if key in mine and value not in (AUTO, mine[key]):
                raise _contradiction(f"optimizer.params.{key}", value, f"optimizer.{key}", mine[key])
    scheduler = config.pop("scheduler", None)
    for key, value in (scheduler or {}).get("params", {}).items():
        if value != AUTO:
            raise _contradiction(f"scheduler.params.{key}", value, "optimizer.schedule", recipe.optimizer.schedule)


def _fill_zero(zero: dict[str, Any], per_host: int, hidden_size: int, nvme_path: Path) -> None:
    """Bucket sizes after the Hugging Face convention: multiples of the hidden size. hpZ keeps its copies within a host."""
    decided = {
        "reduce_bucket_size": hidden_size * hidden_size,
        "stage3_prefetch_bucket_size": int(0.9 * hidden_size * hidden_size),
        "stage3_param_persistence_threshold": 10 * hidden_size,
        "zero_hpz_partition_size": per_host,
    }
    for key, value in decided.items():
        if zero.get(key) == AUTO:
            zero[key] = value
    for part in ("offload_optimizer", "offload_param"):
        if zero.get(part, {}).get("nvme_path") == AUTO:
            zero[part]["nvme_path"] = str(nvme_path)


def _fill(section: dict[str, Any], key: str, value: Any, knob: str) -> None:
    if section.get(key, AUTO) not in (AUTO, value):
        raise _contradiction(key, section[key], knob, value)
    section[key] = value


def _contradiction(key: str, theirs: Any, knob: str, mine: Any) -> UserError:
    return UserError(
        f"the DeepSpeed file says {key}={theirs}, the recipe {knob}={mine}",
        f'write "auto" for {key} in the file, or make the two equal',
    )


def _autos(value: Any, where: str = "") -> list[str]:
    if isinstance(value, dict):
        return [found for key, inner in value.items() for found in _autos(inner, f"{where}.{key}" if where else key)]
    return [where] if value == AUTO else []
