"""Loading under ZeRO-3: `python benchmarks/load.py [0.5B 1.5B 7B]` (CPU; disk for the model in bf16, memory for it once).

A model of random weights is written as safetensors and loaded in bf16 by 1 and 2 workers on this host: by distmed, each worker
reading its own partition, and by transformers' ZeRO-3 path. Resident memory is the sum of the workers' peaks, above what each
had before and in all. A first, uncounted run fills the page cache, where the file fits into it.
"""

from __future__ import annotations

import json
import os
import socket
import struct
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from dated import Dated

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


def write_model(folder: Path, shape: dict[str, Any], texts: Sequence[str] = ("fever and cough",)) -> int:
    """config.json, a tokenizer of `texts` and shards of random bf16 weights; the bytes of the weights."""
    from transformers import AutoConfig, AutoModelForCausalLM

    from distmed.model.builtin import make_tiny_llama

    make_tiny_llama(folder, texts, vocab_size=300 if len(texts) == 1 else 3072)
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
    one = np.array([0x3F80], np.uint16).tobytes()
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
            for name, entry in header.items():
                first, last = entry["data_offsets"]
                full = one * (len(block) // len(one)) if "norm" in name else block
                for start in range(first, last, len(full)):
                    file.write(full[: last - start])
    index = {"metadata": {"total_size": total}, "weight_map": weight_map}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    return total


def load_ours(folder: Path) -> Any:
    from distmed.model.load import load_model
    from distmed.recipe_file import check

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


def measure(folder: Path, load: Any, workers: int) -> dict[str, float]:
    """Sums over the workers in GiB: `above` the start at the peak, `all` at the peak, `read` from files; `s` of the slowest."""
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
    sums = {key: sum(each[key] for each in found) / GIB for key in ("above", "all", "read")}
    return sums | {"s": max(each["s"] for each in found)}


def _worker(folder: Path, load: Any, workers: int, rank: int, port: str, out: Path) -> None:
    from distmed.train.engine import start_process_group
    from distmed.train.meter import host_peak_bytes

    log = os.open(out / f"{rank}.log", os.O_WRONLY | os.O_CREAT)
    os.dup2(log, 1)
    os.dup2(log, 2)
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(workers)}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "LOCAL_WORLD_SIZE": str(workers)}
    start_process_group(torch.device("cpu"), 900)
    before, read_before = host_peak_bytes(), bytes_read()
    started = time.perf_counter()
    model = load(folder)
    torch.distributed.barrier()
    seconds = time.perf_counter() - started
    assert all(hasattr(parameter, "ds_id") for parameter in model.parameters())
    peak = host_peak_bytes()
    seen = {"above": peak - before, "all": peak, "read": bytes_read() - read_before, "s": seconds}
    (out / f"{rank}.json").write_text(json.dumps(seen))


def bytes_read() -> int:
    """By this process through read calls; a file that is mapped does not count."""
    return int(Path("/proc/self/io").read_text().split()[1])


def main(names: list[str]) -> None:
    torch.set_num_threads(1)
    # Imported once, before the workers are forked.
    import deepspeed  # noqa: F401
    import transformers.models.llama.modeling_llama
    import transformers.models.qwen2.modeling_qwen2  # noqa: F401

    import distmed.model.load  # noqa: F401

    file = Dated("load", "Loading a model under ZeRO-3")
    file.table(
        "model", "GiB in bf16", "workers", "by", "peak GiB above the start", "of the model", "peak in all", "read", "s"
    )
    for name in names:
        with tempfile.TemporaryDirectory(dir=os.environ.get("LOAD_DIR")) as folder:
            size = write_model(Path(folder), SHAPES[name]) / GIB
            ways = [("distmed", load_ours), ("transformers", load_theirs)]
            if name == "7B":
                # Theirs would take more than this machine has.
                ways = ways[:1]
            measure(Path(folder), load_ours, 1)
            for workers in (1, 2):
                for by, load in ways:
                    seen = measure(Path(folder), load, workers)
                    read = f"{seen['read'] / size:.2f} x" if load is load_ours else "mapped"
                    file.row(
                        name, f"{size:.2f}", workers, by, f"{seen['above']:.2f}", f"{seen['above'] / size:.2f} x",
                        f"{seen['all']:.2f}", read, f"{seen['s']:.1f}",
                    )  # fmt: skip
    file.line()


if __name__ == "__main__":
    main(sys.argv[1:] or list(SHAPES))
