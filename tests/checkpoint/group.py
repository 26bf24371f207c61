"""Runs jobs on a group of worker processes, and gives back what the first rank wrote for each."""

from __future__ import annotations

import json
import uuid
from pathlib import Path
from typing import Any

import torch

from tests.ranks import run_ranks

WORKER = Path(__file__).with_name("worker.py")


def run_group(folder: Path, world_size: int, jobs: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Run `jobs` one after another on one group of `world_size` processes; what the first rank wrote for each."""
    name = uuid.uuid4().hex
    outs = [folder / f"{index}-of-world-{world_size}-{name}.pt" for index in range(len(jobs))]
    plan = folder / f"jobs-{name}.json"
    plan.write_text(json.dumps([{**job, "out": str(out)} for job, out in zip(jobs, outs, strict=True)]))
    run_ranks(WORKER, plan, world_size, logs=folder)
    return [{**torch.load(out, weights_only=False), "path": out} for out in outs]
