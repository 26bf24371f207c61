"""The planner's memory beside real peaks: `python benchmarks/plan.py [NAME …]` (CPU; about 10 GB free, some minutes).

Each configuration is trained for three steps with a snapshot for a checkpoint, by as many processes as it has workers; the
largest resident memory that the kernel saw is held against what `distmed plan` said of one worker.
"""

from __future__ import annotations

import json
import os
import socket
import statistics
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

GIB = 2**30
SHAPES: dict[str, dict[str, int]] = {
    "32M": {"hidden_size": 384, "intermediate_size": 1024, "num_hidden_layers": 8, "num_attention_heads": 6,
            "num_key_value_heads": 6, "vocab_size": 24_000},
    "110M": {"hidden_size": 768, "intermediate_size": 2048, "num_hidden_layers": 10, "num_attention_heads": 12,
             "num_key_value_heads": 12, "vocab_size": 32_000},
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
    zero: dict[str, Any] = field(default_factory=dict)

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
                "precision": "fp32",
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
    Case("stage 3, larger", "350M", "zero3", 2, recomputed=True),
    Case("offload", "350M", "zero3_offload", 1),
    Case("LoRA", "350M", "zero3", 2, rows=4, lora=True),
    Case("LoRA, 1.5 B", "1.5B", "zero3", 1, rows=1, lora=True, recomputed=True),
    Case("LoRA, 1.5 B, two", "1.5B", "zero3", 2, rows=1, lora=True, recomputed=True),
]


def main(names: list[str]) -> None:
    import deepspeed
    import peft  # noqa: F401
    import torch
    import transformers

    torch.set_num_threads(1)
    errors = []
    print(f"torch {torch.__version__}, deepspeed {deepspeed.__version__}, transformers {transformers.__version__}\n")
    print("| configuration | parameters | workers | predicted GiB | real GiB | error |")
    print("| --- | --- | --- | --- | --- | --- |")
    for case in CASES:
        if names and case.name not in names:
            continue
        with tempfile.TemporaryDirectory() as folder:
            _make_model(Path(folder), case)
            plan = _predict(case, Path(folder))
            real = _measure(case, Path(folder))
        predicted = plan["device"]["total"]
        errors.append(predicted / real - 1)
        print(
            f"| {case.name} | {plan['parameters']['total'] / 1e6:,.0f} M | {case.workers} | {predicted / GIB:.2f} "
            f"| {real / GIB:.2f} | {errors[-1]:+.1%} |",
            flush=True,
        )
        if os.environ.get("PARTS"):
            print(json.dumps({k: round(v / GIB, 3) for k, v in plan["device"]["parts"].items()}), flush=True)
    absolute = sorted(abs(error) for error in errors)
    print(f"\nmedian {statistics.median(absolute):.1%}, worst {absolute[-1]:.1%}")


def _make_model(folder: Path, case: Case) -> None:
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
        bf16=False,
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
    from distmed.recipe import check

    recipe = check(case.recipe(folder))
    machine = cpu_host(case.workers, os.cpu_count() or 1, psutil.virtual_memory().total)
    return make_plan(recipe, AutoConfig.from_pretrained(folder), _ds_config(case, recipe), machine).to_dict()


def _measure(case: Case, folder: Path) -> int:
    """The largest VmHWM of the workers, which are forked off this process."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    children = []
    for rank in range(case.workers):
        child = os.fork()
        if child == 0:
            code = 1
            try:
                os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(case.workers)}
                os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "LOCAL_WORLD_SIZE": str(case.workers)}
                (folder / f"{rank}.txt").write_text(str(_train(case, folder, rank)))
                code = 0
            finally:
                os._exit(code)
        children.append(child)
    statuses = [os.waitpid(child, 0)[1] for child in children]
    if any(statuses):
        raise SystemExit(f"{case.name}: a worker ended with {statuses}")
    return max(int((folder / f"{rank}.txt").read_text()) for rank in range(case.workers))


def _train(case: Case, folder: Path, rank: int) -> int:
    import numpy as np
    import torch

    from distmed.checkpoint.save import snapshot
    from distmed.model.load import load_model
    from distmed.recipe import check
    from distmed.stream.batch import Item, Step, collate
    from distmed.train.engine import build_engine, start_process_group, train_step
    from distmed.train.meter import host_peak_bytes

    log = os.open(str(folder / f"{rank}.log"), os.O_WRONLY | os.O_CREAT)
    os.dup2(log, 1)
    start_process_group(torch.device("cpu"), 600)
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
    step = Step([batch], tokens * case.workers, tokens, 2, 0.0, 0, 1)
    for number in range(3):
        train_step(engine, step, number + 1, 3, recipe, None, False)
        if number == 1:
            taken = snapshot(engine, {}, store_frozen=True)
    del taken
    return host_peak_bytes()


if __name__ == "__main__":
    main(sys.argv[1:])
