"""Starts a group of worker processes and waits for them; when one fails the others are ended, and its log is shown."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import torch

WORKER = Path(__file__).with_name("worker.py")
LIMIT_S = 480


def run_group(folder: Path, world_size: int, jobs: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Run `jobs` one after another on one group of `world_size` processes; what the first rank wrote for each."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    outs = [folder / f"{index}-of-world-{world_size}-{port}.pt" for index in range(len(jobs))]
    plan = folder / f"jobs-{port}.json"
    plan.write_text(json.dumps([{**job, "out": str(out)} for job, out in zip(jobs, outs, strict=True)]))
    environment = {**os.environ, "DS_ACCELERATOR": "cpu", "OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore"}
    logs = [folder / f"rank-{rank}-{port}.log" for rank in range(world_size)]
    processes = []
    for rank, log in enumerate(logs):
        command = [sys.executable, str(WORKER), str(plan), str(rank), str(world_size), str(port)]
        with log.open("w") as told:
            processes.append(subprocess.Popen(command, env=environment, stdout=told, stderr=subprocess.STDOUT))
    limit = time.monotonic() + LIMIT_S
    try:
        while any(process.poll() is None for process in processes):
            assert time.monotonic() < limit, f"still running after {LIMIT_S} s:\n{logs[0].read_text()[-4000:]}"
            for process, log in zip(processes, logs, strict=True):
                assert process.poll() in (None, 0), log.read_text()[-4000:]
            time.sleep(0.1)
    finally:
        for process in processes:
            process.kill()
            process.wait()
    for process, log in zip(processes, logs, strict=True):
        assert process.returncode == 0, log.read_text()[-4000:]
    return [{**torch.load(out, weights_only=False), "path": out} for out in outs]
