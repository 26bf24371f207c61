"""Training on one device beside a bare PyTorch loop of the same model: `benchmarks/gpu.sh [1B 8B 8B-lora | tiny]`.

Fresh weights, sequences of 4,096 tokens with two packed cases, every token a target. distmed: ZeRO-3, bf16 with fp32 masters,
the fused loss. Bare: fp32 weights under bf16 autocast (LoRA: a bf16 base), fused AdamW, transformers' loss over whole
logits, no packing mask. Both recompute activations where the table says so. MFU: 6 operations a weight and token (4 if it is
frozen), output layer included, and 12 x layers x width x length of a case for attention; nothing for recomputation.
Each way runs in a process of its own: `tiny` checks all of it on any machine, a CPU too.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

GIB = 2**30
WARM_UP, TIMED = 2, 6
LLAMA = {"vocab_size": 128_256, "max_position_embeddings": 8192, "num_key_value_heads": 8, "rope_theta": 500_000.0}
LLAMA_1B = {**LLAMA, "hidden_size": 2048, "intermediate_size": 8192, "num_hidden_layers": 16, "num_attention_heads": 32,
            "tie_word_embeddings": True}  # fmt: skip
LLAMA_8B = {
    **LLAMA,
    "hidden_size": 4096,
    "intermediate_size": 14_336,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
}
TINY = {**LLAMA, "vocab_size": 2048, "hidden_size": 128, "intermediate_size": 256, "num_hidden_layers": 2,
        "num_attention_heads": 8}  # fmt: skip


@dataclass(frozen=True)
class Case:
    title: str
    shape: dict[str, Any]
    rows: int
    lora: bool = False
    recomputed: bool = True
    seq_len: int = 4096


CASES = {
    "1B": Case("1 B, all weights", LLAMA_1B, 4),
    "8B": Case("8 B, all weights", LLAMA_8B, 2),
    "8B-lora": Case("8 B, LoRA of rank 16", LLAMA_8B, 2, lora=True),
    "tiny": Case("tiny, all weights", TINY, 2, seq_len=256),
    "tiny-lora": Case("tiny, LoRA", TINY, 2, lora=True, seq_len=256),
}
GROUPS = {(): ["1B", "8B", "8B-lora"], ("tiny",): ["tiny", "tiny-lora"]}


def recipe_of(case: Case, folder: Path) -> Any:
    from distmed.recipe_file import check

    return check(
        {
            "name": "gpu",
            "task": "generate",
            "model": {"path": str(folder), "init": "random", **({"lora": {"rank": 16}} if case.lora else {})},
            "data": {"train": [{"source": "none"}], "seq_len": case.seq_len},
            "train": {
                "micro_batch": case.rows,
                "global_batch": case.rows,
                "precision": "bf16",
                "activation_checkpointing": case.recomputed,
            },
        }
    )


def ds_config_of(case: Case, recipe: Any) -> dict[str, Any]:
    from distmed.train.deepspeed_config import resolve_config

    return resolve_config(
        recipe, world_size=1, bf16=True, hidden_size=case.shape["hidden_size"], nvme_path=Path("nvme")
    )


def ours(case: Case, folder: Path, device: Any) -> tuple[Any, Callable[[], float]]:
    """The model, and a function that takes a step and gives its loss."""
    import numpy as np

    from distmed.model.load import load_model
    from distmed.stream.batch import Item, Step, collate
    from distmed.train.engine import build_engine, start_process_group, train_step

    os.environ |= {"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "1", "LOCAL_WORLD_SIZE": "1"}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": os.environ.get("MASTER_PORT", "29531")}
    start_process_group(device, 300)
    recipe = recipe_of(case, folder)
    config = ds_config_of(case, recipe)
    model = load_model(recipe, folder, [], [], config, device)
    engine = build_engine(model, recipe, config)
    half, generator = case.seq_len // 2, np.random.default_rng(0)
    rows = [
        [Item(generator.integers(5, 299, half, dtype=np.int32), 1, -1, 0.0, "case", 0) for _ in range(2)]
        for _ in range(case.rows)
    ]
    batch = collate(rows, seq_len=case.seq_len, pad_id=0, targets=True)
    targets = case.rows * 2 * (half - 1)
    step = Step([batch], targets, targets, 2 * case.rows, 0.0, [0.0], 0, 1)
    number = iter(range(1, 1000))
    return model, lambda: train_step(engine, step, next(number), 1000, recipe, None, lambda: False).loss


def bare(case: Case, folder: Path, device: Any) -> tuple[Any, Callable[[], float]]:
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    config = AutoConfig.from_pretrained(folder)
    dtype = torch.bfloat16 if case.lora else torch.float32
    with device:
        model: Any = AutoModelForCausalLM.from_config(config, dtype=dtype, attn_implementation="sdpa")
    if case.recomputed:
        model.gradient_checkpointing_enable({"use_reentrant": False})
    if case.lora:
        from peft import LoraConfig, get_peft_model

        settings = LoraConfig(r=16, lora_alpha=32, target_modules="all-linear")
        model = get_peft_model(model, settings, autocast_adapter_dtype=False)
    model.train()
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=3e-4, fused=True)
    ids_BL = torch.randint(5, 299, (case.rows, case.seq_len), device=device)

    def step() -> float:
        with torch.autocast(device.type, torch.bfloat16):
            loss = model(input_ids=ids_BL, labels=ids_BL, use_cache=False).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        return float(loss.detach())

    return model, step


def flops_of_step(case: Case, model: Any) -> float:
    from torch import nn

    embeddings = {id(m.weight) for m in model.modules() if isinstance(m, nn.Embedding)}
    weights = 0.0
    for parameter in model.parameters():
        numel = getattr(parameter, "ds_numel", parameter.numel())
        if id(parameter) not in embeddings:
            weights += numel * (6 if parameter.requires_grad else 4)
        elif case.shape.get("tie_word_embeddings"):
            weights += 6 * numel
    attention = 12 * case.shape["num_hidden_layers"] * case.shape["hidden_size"] * case.seq_len / 2
    return case.rows * case.seq_len * (weights + attention)


def measure(case: Case, way: str, folder: Path) -> dict[str, float | None]:
    """In this process: tokens a second, MFU, peak bytes on the device (on a CPU: resident)."""
    import torch

    from distmed.train.hardware import peak_flops
    from distmed.train.meter import host_peak_bytes

    device = torch.device("cuda:0" if torch.cuda.is_available() else "cpu")
    torch.manual_seed(0)
    model, step = {"distmed": ours, "bare": bare}[way](case, folder, device)
    losses = [step() for _ in range(WARM_UP)]
    started = time.perf_counter()
    # The loss that a step gives has waited for the device.
    losses += [step() for _ in range(TIMED)]
    seconds = (time.perf_counter() - started) / TIMED
    assert all(loss == loss for loss in losses), losses
    peak = peak_flops(device, bf16=True)
    return {
        "tokens_per_s": case.rows * case.seq_len / seconds,
        "mfu": flops_of_step(case, model) / seconds / peak if peak else None,
        "peak": torch.cuda.max_memory_allocated() if device.type == "cuda" else host_peak_bytes(),
        "loss": losses[-1],
    }


def planned(case: Case, folder: Path) -> dict[str, Any]:
    """The plan for the device that is there; for CPUs where there is none, or none that it knows."""
    import psutil
    import torch
    from transformers import AutoConfig

    from distmed.plan.devices import DEVICES, Machine, cpu_host
    from distmed.plan.plan import make_plan

    machine = cpu_host(1, os.cpu_count() or 1, psutil.virtual_memory().total)
    if torch.cuda.is_available():
        memory = torch.cuda.mem_get_info()[1]
        near = min(DEVICES.values(), key=lambda device: abs(device.memory - memory))
        machine = Machine(near, 1, 1)
    recipe = recipe_of(case, folder)
    return make_plan(recipe, AutoConfig.from_pretrained(folder), ds_config_of(case, recipe), machine).to_dict()


def child(*words: str) -> dict[str, Any] | None:
    """What this script prints when it is called with `words`; None if it fails, as when memory does not suffice."""
    done = subprocess.run([sys.executable, __file__, *words], capture_output=True, text=True)
    if done.returncode:
        print(done.stderr[-1500:], file=sys.stderr)
        return None
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def main(names: list[str]) -> None:
    from dated import Dated
    from transformers import LlamaConfig

    from distmed.model.builtin import make_tiny_llama

    file = Dated("gpu", "One device beside a bare PyTorch loop")
    file.table("model", "way", "tokens/s", "MFU", "peak GiB", "predicted GiB", "last loss")
    for name in GROUPS.get(tuple(names), names):
        case = CASES[name]
        with tempfile.TemporaryDirectory() as folder:
            make_tiny_llama(Path(folder), ["fever and cough"], vocab_size=300)
            LlamaConfig(**case.shape, pad_token_id=0, architectures=["LlamaForCausalLM"]).save_pretrained(folder)
            plan = child("plan", name, folder)
            assert plan is not None
            title = f"{case.title}, {case.rows} x {case.seq_len}{', recomputed' if case.recomputed else ''}"
            for way in ("distmed", "bare"):
                # The context and what the allocator cannot use again are not counted by torch.
                parts = plan["device"]["parts"]
                needs = sum(v for part, v in parts.items() if part not in ("context", "fragmentation"))
                predicted = f"{needs / GIB:.2f}" if way == "distmed" else ""
                if way == "distmed" and plan["verdict"] == "does not fit":
                    file.row(title, way, "does not fit", "", "", predicted, "")
                    continue
                seen = child(way, name, folder)
                if seen is None:
                    file.row(title, way, "failed", "", "", predicted, "")
                    continue
                mfu = f"{seen['mfu']:.1%}" if seen["mfu"] else "?"
                file.row(
                    title, way, f"{seen['tokens_per_s']:,.0f}", mfu, f"{seen['peak'] / GIB:.2f}", predicted,
                    f"{seen['loss']:.3f}",
                )  # fmt: skip


if __name__ == "__main__":
    if len(sys.argv) == 4 and sys.argv[1] in ("distmed", "bare", "plan"):
        case, there = CASES[sys.argv[2]], Path(sys.argv[3])
        print(json.dumps(planned(case, there) if sys.argv[1] == "plan" else measure(case, sys.argv[1], there)))
    else:
        main(sys.argv[1:])
