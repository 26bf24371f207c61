"""Loading under ZeRO-3: `python benchmarks/load.py [0.5B 1.5B 7B]` (CPU; disk for the model in bf16, memory for it once).

A model of random weights is written as safetensors and loaded in bf16 by 1 and 2 workers on this host: by distmed, each worker
reading its own partition, and by transformers' ZeRO-3 path. Resident memory is the sum of the workers' peaks above what each
had before. The page cache holds the files in all runs alike; a first, uncounted one fills it.
"""

from __future__ import annotations

import json
import os
import socket
import struct
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

GIB = 2**30
SHARD = 2_000_000_000
SHAPES: dict[str, dict[str, Any]] = {
    "0.5B": {"model_type": "qwen2", "hidden_size": 896, "intermediate_size": 4864, "num_hidden_layers": 24,
             "num_attention_heads": 14, "num_key_value_heads": 2, "vocab_size": 151_936, "tie_word_embeddings": True},
    "1.5B": {"model_type": "qwen2", "hidden_size": 1536, "intermediate_size": 8960, "num_hidden_layers": 28,
             "num_attention_heads": 12, "num_key_value_heads": 2, "vocab_size": 151_936, "tie_word_embeddings": True},
    "7B": {"model_type": "llama", "hidden_size": 4096, "intermediate_size": 11_008, "num_hidden_layers": 32,
           "num_attention_heads": 32, "num_key_value_heads": 32, "vocab_size": 32_000},
}  # fmt: skip
DS_CONFIG = {
    "train_micro_batch_size_per_gpu": 1,
    "bf16": {"enabled": True},
    "zero_optimization": {"stage": 3},
    "zero_allow_untested_optimizer": True,
    "steps_per_print": 10**9,
}


def write_model(folder: Path, shape: dict[str, Any]) -> int:
    """config.json, a tokenizer and shards of random bf16 weights; the bytes of the weights."""
    from transformers import AutoConfig, AutoModelForCausalLM

    from distmed.model.builtin import make_tiny_llama

    make_tiny_llama(folder, ["fever and cough"], vocab_size=300)
    values = {key: value for key, value in shape.items() if key != "model_type"}
    config = AutoConfig.for_model(shape["model_type"], pad_token_id=0, **values)
    config.architectures = ["Qwen2ForCausalLM" if shape["model_type"] == "qwen2" else "LlamaForCausalLM"]
    config.save_pretrained(folder)
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16)
    shards: list[dict[str, list[int]]] = [{}]
    size = total = 0
    for name, parameter in model.named_parameters():
        if size + 2 * parameter.numel() > SHARD and shards[-1]:
            shards.append({})
            size = 0
        shards[-1][name] = list(parameter.shape)
        size += 2 * parameter.numel()
        total += 2 * parameter.numel()
    weight_map = {}
    generator = np.random.default_rng(0)
    # bf16 of small magnitude: the upper half of float32 noise.
    noise = (generator.standard_normal(1 << 22, dtype=np.float32) * 0.02).view(np.uint32) >> 16
    block = noise.astype(np.uint16).tobytes()
    for number, shard in enumerate(shards):
        file_name = f"model-{number:05d}.safetensors"
        header, end = {}, 0
        for name, dims in shard.items():
            length = 2 * int(np.prod(dims))
            header[name] = {"dtype": "BF16", "shape": dims, "data_offsets": [end, end + length]}
            weight_map[name] = file_name
            end += length
        text = json.dumps(header).encode()
        text += b" " * (-len(text) % 8)
        with (folder / file_name).open("wb") as file:
            file.write(struct.pack("<Q", len(text)) + text)
            while end > 0:
                file.write(block[: min(end, len(block))])
                end -= len(block)
    index = {"metadata": {"total_size": total}, "weight_map": weight_map}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    return total


def load_ours(folder: Path) -> Any:
    from distmed.model.load import load_model
    from distmed.recipe import check

    recipe = check(
        {"name": "load", "task": "generate", "model": {"path": str(folder)}, "data": {"train": [{"source": "none"}]}}
    )
    return load_model(recipe, folder, [], [], DS_CONFIG, torch.device("cpu"))


def load_theirs(folder: Path) -> Any:
    from transformers import AutoModelForCausalLM
    from transformers.integrations import HfDeepSpeedConfig

    alive = HfDeepSpeedConfig(DS_CONFIG)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.bfloat16)
    del alive
    return model


def measure(folder: Path, load: Any, workers: int) -> tuple[float, float, list[float]]:
    """Summed peak in GiB above the start, the slowest worker's seconds, and each worker's peak in all."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    with tempfile.TemporaryDirectory() as out:
        children = []
        for rank in range(workers):
            child = os.fork()
            if child == 0:
                try:
                    _worker(folder, load, workers, rank, port, Path(out))
                finally:
                    os._exit(0)
            children.append(child)
        for child in children:
            os.waitpid(child, 0)
        found = [json.loads((Path(out) / f"{rank}.json").read_text()) for rank in range(workers)]
    above, seconds, peaks = (list(part) for part in zip(*found, strict=True))
    return sum(above) / GIB, max(seconds), [peak / GIB for peak in peaks]


def _worker(folder: Path, load: Any, workers: int, rank: int, port: str, out: Path) -> None:
    from distmed.train.engine import start_process_group
    from distmed.train.meter import host_peak_bytes

    log = os.open(out / f"{rank}.log", os.O_WRONLY | os.O_CREAT)
    os.dup2(log, 1)
    os.dup2(log, 2)
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(workers)}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "LOCAL_WORLD_SIZE": str(workers)}
    start_process_group(torch.device("cpu"), 900)
    before = host_peak_bytes()
    started = time.perf_counter()
    model = load(folder)
    torch.distributed.barrier()
    seconds = time.perf_counter() - started
    assert all(hasattr(parameter, "ds_id") for parameter in model.parameters())
    peak = host_peak_bytes()
    (out / f"{rank}.json").write_text(json.dumps([peak - before, seconds, peak]))


def main(names: list[str]) -> None:
    import deepspeed
    import transformers

    torch.set_num_threads(1)
    # Imported once, before the workers are forked.
    import distmed.model.load  # noqa: F401

    print(f"torch {torch.__version__}, deepspeed {deepspeed.__version__}, transformers {transformers.__version__}\n")
    print("| model | GiB in bf16 | workers | by | summed peak GiB | of the model | s |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for name in names:
        with tempfile.TemporaryDirectory(dir=os.environ.get("LOAD_DIR")) as folder:
            size = write_model(Path(folder), SHAPES[name]) / GIB
            ways = [("distmed", load_ours), ("transformers", load_theirs)]
            if os.environ.get("ONLY_OURS"):
                ways = ways[:1]
            for workers in (1, 2):
                for by, load in ways:
                    gib, seconds, _ = measure(Path(folder), load, workers)
                    print(
                        f"| {name} | {size:.2f} | {workers} | {by} | {gib:.2f} | {gib / size:.2f} x | {seconds:.1f} |",
                        flush=True,
                    )


if __name__ == "__main__":
    main(sys.argv[1:] or ["0.5B", "1.5B"])
