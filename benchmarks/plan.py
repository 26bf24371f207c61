"""The planner's memory beside real peaks: `python benchmarks/plan.py [NAME …]` (CPU; about 10 GB free, some minutes).

Each configuration is trained for three steps with a snapshot for a checkpoint, by as many Ray workers as it says; the largest
resident memory that the kernel saw is held against what `distmed plan` said of one worker. These workers have no stream of data
and no Ray Train around them, so what they had before their model stands for the plan's constant for a process.
"""

from __future__ import annotations

import json
import os
import socket
import statistics
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from dated import Dated

from distmed.plan.memory import PROCESS

GIB = 2**30
SHAPES: dict[str, dict[str, int]] = {
    "32M": {"hidden_size": 384, "intermediate_size": 1024, "num_hidden_layers": 8, "num_attention_heads": 6,
            "num_key_value_heads": 6, "vocab_size": 24_000},
    "110M": {"hidden_size": 768, "intermediate_size": 2048, "num_hidden_layers": 10, "num_attention_heads": 12,
             "num_key_value_heads": 12, "vocab_size": 32_000},
    "190M": {"hidden_size": 1024, "intermediate_size": 2816, "num_hidden_layers": 12, "num_attention_heads": 16,
             "num_key_value_heads": 16, "vocab_size": 32_000},
    "350M": {"hidden_size": 1024, "intermediate_size": 2816, "num_hidden_layers": 22, "num_attention_heads": 16,
             "num_key_value_heads": 16, "vocab_size": 32_000},
    "1.5B": {"hidden_size": 1536, "intermediate_size": 8960, "num_hidden_layers": 28, "num_attention_heads": 12,
             "num_key_value_heads": 2, "vocab_size": 151_936},
}  # fmt: skip


@dataclass(frozen=True)
class Case:
    name: str
    shape: str
    deepspeed: str
    workers: int
    rows: int = 2
    seq_len: int = 256
    recomputed: bool = False
    lora: bool = False
    bf16: bool = False

    def recipe(self, folder: Path) -> dict[str, Any]:
        return {
            "name": "plan",
            "task": "generate",
            "model": {"path": str(folder), "init": "random", **({"lora": {}} if self.lora else {})},
            "data": {"train": [{"source": "none"}], "seq_len": self.seq_len},
            "train": {
                "micro_batch": self.rows,
                "global_batch": self.rows * self.workers,
                "activation_checkpointing": self.recomputed,
                "precision": "bf16" if self.bf16 else "fp32",
            },
            "deepspeed": self.deepspeed,
            "cluster": {"num_workers": self.workers},
        }


CASES = [
    Case("stage 0", "32M", "zero0", 1, rows=4),
    Case("stage 1", "32M", "zero1", 2, rows=4),
    Case("stage 2", "32M", "zero2", 2, rows=4),
    Case("stage 3", "32M", "zero3", 2, rows=4),
    Case("stage 2, larger", "110M", "zero2", 1),
    Case("stage 3, long", "110M", "zero3", 1, rows=2, seq_len=1024),
    Case("stage 3, recomputed", "110M", "zero3", 2, rows=4, seq_len=512, recomputed=True),
    Case("stage 3, larger", "190M", "zero3", 2, recomputed=True),
    Case("stage 2, bf16", "110M", "zero2", 2, bf16=True),
    Case("stage 3, bf16", "110M", "zero3", 2, bf16=True),
    Case("offload", "190M", "zero3_offload", 1),
    Case("LoRA", "350M", "zero3", 2, rows=4, lora=True),
    Case("LoRA, 1.5 B", "1.5B", "zero3", 1, rows=1, lora=True, recomputed=True, bf16=True),
    Case("LoRA, 1.5 B, two", "1.5B", "zero3", 2, rows=1, lora=True, recomputed=True, bf16=True),
]


def main(names: list[str]) -> None:
    errors = []
    file = Dated("plan", "The planner's memory of a worker beside real peaks")
    file.table("configuration", "parameters", "workers", "predicted GiB", "real GiB", "error", "verdict")
    for case in CASES:
        if names and case.name not in names:
            continue
        with tempfile.TemporaryDirectory() as folder:
            make_model(Path(folder), case)
            plan = _predict(case, Path(folder))
            real, before = _measure(case, Path(folder))
        predicted = plan["device"]["total"] - PROCESS + before
        errors.append(predicted / real - 1)
        file.row(
            case.name, f"{plan['parameters']['total'] / 1e6:,.0f} M", case.workers, f"{predicted / GIB:.2f}",
            f"{real / GIB:.2f}", f"{errors[-1]:+.1%}", plan["verdict"],
        )  # fmt: skip
        if os.environ.get("PARTS"):
            print(json.dumps({k: round(v / GIB, 3) for k, v in plan["device"]["parts"].items()}), flush=True)
    absolute = sorted(abs(error) for error in errors)
    file.line(f"\nAbsolute error: median {statistics.median(absolute):.1%}, worst {absolute[-1]:.1%}.")


def make_model(folder: Path, case: Case) -> None:
    from transformers import LlamaConfig

    from distmed.model.builtin import make_tiny_llama

    make_tiny_llama(folder, ["fever and cough"], vocab_size=300)
    LlamaConfig(
        **SHAPES[case.shape], max_position_embeddings=4096, tie_word_embeddings=True, pad_token_id=0
    ).save_pretrained(folder)


def _ds_config(case: Case, recipe: Any) -> dict[str, Any]:
    from distmed.train.deepspeed_config import resolve_config

    stage0 = case.deepspeed == "zero0"
    if stage0:
        recipe = recipe.model_copy(update={"deepspeed": "zero1"})
    config = resolve_config(
        recipe,
        world_size=case.workers,
        bf16=case.bf16,
        hidden_size=SHAPES[case.shape]["hidden_size"],
        nvme_path=Path("nvme"),
    )
    if stage0:
        config["zero_optimization"] = {"stage": 0}
    return config


def _predict(case: Case, folder: Path) -> dict[str, Any]:
    import psutil
    from transformers import AutoConfig

    from distmed.plan.devices import cpu_host
    from distmed.plan.plan import make_plan
    from distmed.recipe_file import check

    recipe = check(case.recipe(folder))
    machine = cpu_host(case.workers, os.cpu_count() or 1, psutil.virtual_memory().total)
    return make_plan(recipe, AutoConfig.from_pretrained(folder), _ds_config(case, recipe), machine).to_dict()


def _measure(case: Case, folder: Path) -> tuple[int, int]:
    """The largest VmHWM of the workers, and what they had before their model."""

    def work(rank: int) -> tuple[int, int]:
        import deepspeed  # noqa: F401
        import peft  # noqa: F401
        import transformers.models.llama.modeling_llama  # noqa: F401

        import distmed.train.worker  # noqa: F401
        from distmed.checkpoint.save import snapshot
        from distmed.train.meter import host_peak_bytes

        before = host_peak_bytes()
        taken = None
        for number, engine in enumerate(steps(case, folder, rank)):
            if number == 1:
                taken = snapshot(engine, {}, store_frozen=True)
        del taken
        return host_peak_bytes(), before

    return max(in_workers(case.workers, work))


def in_workers(workers: int, work: Callable[[int], Any]) -> list[Any]:
    """What `work` gives for each rank, in so many new Ray workers that share a process group."""
    import ray

    if not ray.is_initialized():
        ray.init(address="local", num_cpus=2, include_dashboard=False, log_to_driver=False, object_store_memory=2**27)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])

    # Each call has a process of its own, whose peak of memory is that of the call.
    @ray.remote(num_cpus=0, max_calls=1)
    def worker(rank: int) -> Any:
        from distmed.train.engine import start_process_group

        os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(workers)}
        os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "LOCAL_WORLD_SIZE": str(workers)}
        torch.set_num_threads(1)
        start_process_group(torch.device("cpu"), 600)
        return work(rank)

    return ray.get([worker.remote(rank) for rank in range(workers)])


def steps(case: Case, folder: Path, rank: int) -> Iterator[Any]:
    """The engine after each of three steps."""
    import numpy as np

    from distmed.model.load import load_model
    from distmed.recipe_file import check
    from distmed.stream.batch import Item, Step, collate
    from distmed.train.engine import build_engine, train_step

    recipe = check(case.recipe(folder))
    config = _ds_config(case, recipe)
    model = load_model(recipe, folder, [], [], config, torch.device("cpu"))
    engine = build_engine(model, recipe, config)
    generator = np.random.default_rng(rank)
    half = case.seq_len // 2
    rows = [
        [Item(generator.integers(5, 299, half, dtype=np.int32), 1, -1, 0.0, "case", 0) for _ in range(2)]
        for _ in range(case.rows)
    ]
    batch = collate(rows, seq_len=case.seq_len, pad_id=0, targets=True)
    tokens = case.rows * 2 * (half - 1)
    step = Step([batch], tokens * case.workers, tokens, 2, 0.0, [0.0], 0, 1)
    for number in range(3):
        train_step(engine, step, number + 1, 3, recipe, None, lambda: False)
        yield engine


if __name__ == "__main__":
    main(sys.argv[1:])
