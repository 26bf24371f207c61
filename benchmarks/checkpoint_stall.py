"""How long the loop stands still for a checkpoint on storage that takes 200 MB/s a rank, beside a synchronous save.

    python benchmarks/checkpoint_stall.py [--workers 2] [key=value …]

One run as a user starts it, with a Llama of 32 M parameters; its stalls are those of its own metrics.jsonl. Each rank's files
are slowed where they are written, by a sitecustomize.py in PYTHONPATH, so that the project's code is as it is. Then the bytes
of one rank are copied in memory and written through the same brake, here. Appends to checkpoint_stall_DATE.md.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from distmed.checkpoint.storage import Storage

ROOT = Path(__file__).parents[1]
BYTES_PER_S = 200e6
PART = 8 << 20
EVERY, SAVES = 6, 10


class Slow:
    """A file that takes BYTES_PER_S."""

    def __init__(self, file: IO[bytes]) -> None:
        self.file = file
        self.began = time.perf_counter()
        self.written = 0

    def write(self, content: Any) -> int:
        content = memoryview(content).cast("B")
        for start in range(0, len(content), PART):
            self.file.write(content[start : start + PART])
            self.written += len(content[start : start + PART])
            time.sleep(max(0.0, self.began + self.written / BYTES_PER_S - time.perf_counter()))
        return len(content)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.file, name)


def slow_down() -> None:
    """From now on in this process."""
    fast = Storage.writing

    @contextlib.contextmanager
    def writing(self: Storage) -> Iterator[Any]:
        with fast(self) as file:
            yield Slow(file)

    Storage.writing = writing  # type: ignore[method-assign]


def train(folder: Path, workers: int, words: list[str]) -> list[float]:
    """A run with a checkpoint every EVERY steps; for how many seconds the loop stood still for each."""
    from llama import write_llama_32m

    brake = folder / "brake"
    brake.mkdir()
    (brake / "sitecustomize.py").write_text("import checkpoint_stall\ncheckpoint_stall.slow_down()\n")
    variables = {
        "PYTHONPATH": f"{brake}:{Path(__file__).parent}:{ROOT}",
        "OMP_NUM_THREADS": "1" if workers > 1 else str(os.cpu_count()),
        "WANDB_MODE": "disabled",
        # Ray's workers would give way to whatever else the machine does.
        "RAY_worker_niceness": "0",
    }
    command = [
        sys.executable, "-m", "distmed", "train", "--name", "stall", "--num-workers", str(workers),
        f"model.path={write_llama_32m(folder / 'model')}", "model.init=random", "train.linear_floor=false",
        "data.seq_len=128", "train.global_batch=4", "train.micro_batch=2",
        "train.eval_every=100000", f"train.max_steps={EVERY * SAVES}",
        f"checkpoint.every={EVERY}", f"train.log_every={EVERY}", *words,
    ]  # fmt: skip
    subprocess.run(command, cwd=folder, env={**os.environ, **variables}, check=True)
    lines = [json.loads(line) for line in (folder / "runs" / "stall" / "metrics.jsonl").read_text().splitlines()]
    # A stall is logged with the step after it; the last one only in the summary.
    stalls = [line["perf/checkpoint_stall_s"] for line in lines if line["step"] > EVERY]
    total = json.loads((folder / "runs" / "stall" / "summary.json").read_text())["checkpoint_stall_s"]
    return [*stalls, total - sum(stalls)]


def by_hand(content: bytes, where: Path) -> tuple[list[float], list[float]]:
    """Seconds of five copies of the content in memory, and of three synchronous saves: a copy, then the writing of it."""
    import torch

    tensor = torch.frombuffer(bytearray(content), dtype=torch.uint8)
    slow_down()
    copies, saves = [], []
    for _ in range(5):
        began = time.perf_counter()
        tensor.clone()
        copies.append(time.perf_counter() - began)
    for _ in range(3):
        began = time.perf_counter()
        taken = tensor.clone()
        with Storage.at(where).writing() as file:
            file.write(taken.numpy())
        saves.append(time.perf_counter() - began)
    return copies, saves


def main() -> None:
    from dated import Dated

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--workers", type=int, default=2)
    asked, words = parser.parse_known_args()
    with tempfile.TemporaryDirectory(prefix="stall-") as name:
        folder = Path(name)
        stalls = train(folder, asked.workers, words)
        newest = sorted((folder / "runs" / "stall" / "checkpoints").glob("step-*"))[-1]
        content = max(newest.glob("*.safetensors"), key=lambda path: path.stat().st_size).read_bytes()
        copies, saves = by_hand(content, folder / "synchronous")
    stall, copy, save = statistics.median(stalls), statistics.median(copies), statistics.median(saves)
    file = Dated("checkpoint_stall", "How long the loop stands still for a checkpoint")
    file.line(
        f"{asked.workers} workers, {len(stalls)} checkpoints of {len(content) / 1e6:.0f} MB a rank, "
        f"storage of {BYTES_PER_S / 1e6:.0f} MB/s a rank. Medians.\n"
    )
    file.table("", "seconds", "range")
    for what, seconds in (
        ("the loop stands still for a checkpoint", stalls),
        ("a copy of the rank's state in memory", copies),
        ("a synchronous save: copy and write", saves),
    ):
        file.row(what, f"{statistics.median(seconds):.3f}", f"{min(seconds):.3f} to {max(seconds):.3f}")
    file.line(
        f"\nAims: at most a copy + 0.2 s ({copy + 0.2:.3f} s): {'held' if stall <= copy + 0.2 else 'missed'}; "
        f"under 5 % of a synchronous save: {stall / save:.1%}, {'held' if stall < 0.05 * save else 'missed'}."
    )


if __name__ == "__main__":
    main()
