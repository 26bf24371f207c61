"""A group of worker processes over gloo: when one fails the others are ended, and its log is shown."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

ROOT = Path(__file__).parents[1]


def run_ranks(
    worker: Path,
    job: Path,
    world_size: int,
    *,
    logs: Path,
    last: Callable[[int], list[str]] = lambda rank: [],
    limit_s: float = 500,
) -> None:
    """Run `python WORKER JOB RANK WORLD_SIZE PORT …` once a rank, with what `last` adds for it; logs go to that folder."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    env = {**os.environ, "DS_ACCELERATOR": "cpu", "OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore"}
    env["PYTHONPATH"] = str(ROOT)
    files = [logs / f"rank-{rank}-{port}.log" for rank in range(world_size)]
    processes = []
    for rank, file in enumerate(files):
        command = [sys.executable, str(worker), str(job), str(rank), str(world_size), port, *last(rank)]
        with file.open("w") as told:
            processes.append(subprocess.Popen(command, env=env, stdout=told, stderr=subprocess.STDOUT))
    end = time.monotonic() + limit_s
    try:
        while any(process.poll() is None for process in processes):
            assert time.monotonic() < end, f"still running after {limit_s} s:\n{files[0].read_text()[-4000:]}"
            for process, file in zip(processes, files, strict=True):
                assert process.poll() in (None, 0), file.read_text()[-4000:]
            time.sleep(0.1)
    finally:
        for process in processes:
            process.kill()
            process.wait()
    for process, file in zip(processes, files, strict=True):
        assert process.returncode == 0, file.read_text()[-4000:]


def leave() -> NoReturn:
    """How a worker ends when all it had to do is done, without the interpreter's own end.

    DeepSpeed keeps process groups after they are destroyed, and a thread of gloo that still holds a tensor while the
    interpreter goes down aborts the process ("terminate called without an active exception").
    """
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)
