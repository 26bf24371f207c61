"""Starts a group of worker processes and waits for them."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import torch

WORKER = Path(__file__).with_name("worker.py")


def run_group(folder: Path, world_size: int, jobs: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Run `jobs` one after another on one group of `world_size` processes; what the first rank wrote for each."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    outs = [folder / f"{index}-of-world-{world_size}-{port}.pt" for index in range(len(jobs))]
    plan = folder / f"jobs-{port}.json"
    plan.write_text(json.dumps([{**job, "out": str(out)} for job, out in zip(jobs, outs, strict=True)]))
    environment = {**os.environ, "DS_ACCELERATOR": "cpu", "OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore"}
    processes = [
        subprocess.Popen(
            [sys.executable, str(WORKER), str(plan), str(rank), str(world_size), str(port)],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for rank in range(world_size)
    ]
    try:
        told = [process.communicate(timeout=300)[0] for process in processes]
    finally:
        for process in processes:
            process.kill()
    for rank, (process, text) in enumerate(zip(processes, told, strict=True)):
        assert process.returncode == 0, f"rank {rank} of {world_size}:\n{text[-4000:]}"
    return [{**torch.load(out, weights_only=False), "path": out} for out in outs]
