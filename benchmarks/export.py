"""Export beside DeepSpeed's zero_to_fp32.py: `python benchmarks/export.py [32M] [110M] [350M]` (CPU, about 12 GB of disk).

One model under ZeRO-3 on two workers takes three steps and is saved by both: by distmed, and by `engine.save_checkpoint`. Each
is then made a folder of safetensors in fp32, in a process of its own, in turn; the tensors are compared bit by bit. The output
layer is not the embedding here: of tensors that share memory zero_to_fp32.py writes no safetensors.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from dated import Dated
from plan import Case, in_workers, make_model, steps
from safetensors import safe_open

GIB = 2**30
ROOT = Path(__file__).parent.parent
ROUNDS = 3
SHARD_GB = "0.5"
# A process begins with the peak of the one that started it: a small one stands between.
MEASURED = """
import resource, subprocess, sys
subprocess.run(sys.argv[1:], check=True)
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
"""


def main(shapes: list[str]) -> None:
    file = Dated("export", "Export beside zero_to_fp32.py")
    file.table("model", "GiB in fp32", "by", "peak GiB", "s, median", "s, all", "same bits")
    for shape in shapes:
        with tempfile.TemporaryDirectory() as temporary:
            folder = Path(temporary)
            case = Case(f"export {shape}", shape, "zero3", 2, recomputed=True)
            make_model(folder, case)
            untie(folder / "config.json")
            mine, theirs = save_both(case, folder)
            ways = {
                "distmed export": [
                    "-m", "distmed", "export", str(mine), "--out", str(folder / "mine"),
                    "--dtype", "float32", "--max-shard-gb", SHARD_GB,
                ],
                "zero_to_fp32.py": [
                    str(theirs / "zero_to_fp32.py"), str(theirs), str(folder / "theirs"),
                    "--safe_serialization", "--max_shard_size", f"{SHARD_GB}GB",
                ],
            }  # fmt: skip
            ran: dict[str, list[tuple[float, float]]] = {by: [] for by in ways}
            for _ in range(ROUNDS):
                for by, words in ways.items():
                    ran[by].append(timed(words, folder))
            tensors, reference = read(folder / "mine"), read(folder / "theirs")
            size = sum(tensor.nbytes for tensor in tensors.values()) / GIB
            same = tensors.keys() == reference.keys() and all(torch.equal(tensors[n], reference[n]) for n in tensors)
            for by, rounds in ran.items():
                seconds = [second for second, _ in rounds]
                file.row(
                    shape, f"{size:.2f}", by, f"{max(peak for _, peak in rounds):.2f}",
                    f"{statistics.median(seconds):.1f}", ", ".join(f"{second:.1f}" for second in seconds), same,
                )  # fmt: skip


def untie(config: Path) -> None:
    config.write_text(json.dumps(json.loads(config.read_text()) | {"tie_word_embeddings": False}))


def save_both(case: Case, folder: Path) -> tuple[Path, Path]:
    """The checkpoint as distmed writes it, and as the engine does."""
    mine, theirs = folder / f"step-00000003-world-{case.workers}-attempt-0", folder / "engine"

    def work(rank: int) -> None:
        from distmed.checkpoint.save import snapshot

        *_, engine = steps(case, folder, rank)
        network = engine.module.network
        model: dict[str, Any] = {
            "folder": str(folder),
            "dtype": "float32",
            "config": {**network.config.to_dict(), "architectures": [type(network).__name__]},
            "lora": None,
            "lora_scale": None,
        }
        snapshot(engine, {"model": model}).write(mine)
        engine.save_checkpoint(str(theirs), tag="three")

    in_workers(case.workers, work)
    return mine, theirs


def timed(words: list[str], folder: Path) -> tuple[float, float]:
    """Seconds and the peak of resident memory in GiB of one Python process."""
    started = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-S", "-c", MEASURED, sys.executable, *words],
        env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True,
    )  # fmt: skip
    seconds = time.perf_counter() - started
    if done.returncode:
        raise SystemExit(f"{' '.join(words)}: {done.stderr[-2000:]}")
    return seconds, int(done.stdout.splitlines()[-1]) * 1024 / GIB


def read(folder: Path) -> dict[str, torch.Tensor]:
    """All tensors of a folder, by their Hugging Face names."""
    found: dict[str, torch.Tensor] = {}
    for path in folder.glob("*.safetensors"):
        with safe_open(path, framework="pt") as file:
            names = file.keys()
            found |= {name.removeprefix("hf."): file.get_tensor(name) for name in names}
    return found


if __name__ == "__main__":
    main(sys.argv[1:] or ["110M", "350M"])
