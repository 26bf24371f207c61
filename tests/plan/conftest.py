"""Shapes without weights, and setups to vary."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from distmed.plan.devices import Machine, find_device
from distmed.plan.setup import Setup
from distmed.plan.shapes import Shape

LLAMA_8B = {
    "model_type": "llama",
    "architectures": ["LlamaForCausalLM"],
    "vocab_size": 128_256,
    "hidden_size": 4096,
    "intermediate_size": 14_336,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "max_position_embeddings": 131_072,
    "tie_word_embeddings": False,
}


@pytest.fixture
def llama_8b(tmp_path: Path) -> Path:
    """A folder with a config.json and nothing else."""
    folder = tmp_path / "llama-8b"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(LLAMA_8B))
    return folder


@pytest.fixture
def shape() -> Callable[..., Shape]:
    """A shape of `total` parameters in 32 layers, all trained, without activations or vocabulary."""

    def make(total: int, trainable: int | None = None, **changes: Any) -> Shape:
        values: dict[str, Any] = {
            "name": "any",
            "total": total,
            "trained": ((total if trainable is None else trainable) // 32,) * 32,
            "multiplied": total,
            "multiplied_trainable": total,
            "head": 0,
            "head_trainable": 0,
            "largest_layer": 0,
            "block": 0,
            "packable": 0,
            "largest_packable": 0,
            "layers": 32,
            "hidden": 4096,
            "vocabulary": 0,
            "attention_width": 4096,
            "saved": 0,
            "peak": 0,
            "kept": 0,
        }
        return Shape(**{**values, **changes})

    return make


@pytest.fixture
def setup() -> Callable[..., Setup]:
    """ZeRO-3 in bf16 on 8 H100s."""

    def make(devices: int = 8, nodes: int = 1, device: str = "H100-80", **changes: Any) -> Setup:
        values: dict[str, Any] = {
            "machine": Machine(find_device(device), devices, nodes),
            "stage": 3,
            "offload_optimizer": "none",
            "offload_param": "none",
            "bf16": True,
            "micro_batch": 1,
            "global_batch": 64,
            "seq_len": 2048,
            "checkpointing": False,
            "activations_on_host": False,
            "sharers": 1,
            "lora": None,
            "quantized": False,
            "hpz": 1,
            "overlap": True,
            "bucket": 1 << 24,
            "max_live": 10**9,
            "sub_group": 10**9,
            "swap_buffers": 4,
            "store_frozen": False,
        }
        return Setup(**{**values, **changes})

    return make
