"""The Llama of 32 M parameters that several benchmarks train: the built-in tokenizer under a larger architecture."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path


def write_llama_32m(folder: Path, texts: Iterable[str] | None = None) -> Path:
    """config.json and a tokenizer trained on `texts` (None: the built-in patients), no weights; the folder."""
    from transformers import AutoConfig

    from distmed.cases.synthetic import patients
    from distmed.model.builtin import make_tiny_llama

    make_tiny_llama(folder, texts or [case.text for case in patients("train", 1000)], vocab_size=8192)
    config = AutoConfig.from_pretrained(folder)
    config.update(
        {
            "vocab_size": 8192,
            "hidden_size": 512,
            "intermediate_size": 1536,
            "num_hidden_layers": 8,
            "num_attention_heads": 8,
            "num_key_value_heads": 8,
            "head_dim": 64,
        }
    )
    config.save_pretrained(folder)
    return folder
