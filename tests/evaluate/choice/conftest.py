"""Small decoders with random weights and a tokenizer, held as evaluation holds them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from distmed.cases.case import Case
from distmed.evaluate.loading import Loaded
from distmed.model.builtin import make_tiny_llama
from distmed.model.diagnoser import Diagnoser
from distmed.model.load import load_tokenizer
from distmed.recipe_file import check

QUESTIONS = [
    ("Which drug is given first for anaphylaxis?", ("Adrenaline", "Atenolol", "Aspirin", "Insulin"), "A"),
    ("Which vitamin is made in the skin?", ("Vitamin A", "Vitamin D", "Vitamin K", "Vitamin B12", "Vitamin C"), "B"),
    ("A man has fever, a new murmur and splinter hemorrhages. What is it?", ("Gout", "Scurvy", "Endocarditis"), "C"),
    ("Which cell makes antibodies?", ("Neutrophil", "Platelet", "Plasma cell", "Macrophage"), "C"),
    ("Which nerve is compressed in carpal tunnel syndrome?", ("Ulnar", "Median", "Radial", "Axillary"), "B"),
]
WINDOWS = {
    "sliding_window": 6,
    "layer_types": ["sliding_attention", "full_attention", "sliding_attention"],
}
SHAPES: dict[str, dict[str, Any]] = {
    "llama": {},
    "mistral": {"sliding_window": 6},
    "qwen2": {**WINDOWS, "use_sliding_window": True},
    "gemma2": {**WINDOWS, "head_dim": 8, "final_logit_softcapping": 2.0},
    "gpt_neox": {},  # not among the families that were tested for masks of our own
}


@pytest.fixture
def questions() -> list[Case]:
    return [
        Case(
            id=f"q{n}", kind="choice", group=f"exam-{n % 3}", text=text, options=options, label=right, label_name=right
        )
        for n, (text, options, right) in enumerate(QUESTIONS)
    ]


@pytest.fixture(scope="session")
def tokenizer_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tokenizer")
    texts = [" ".join((text, *options)) for text, options, _ in QUESTIONS] * 4
    make_tiny_llama(folder, texts, vocab_size=420)
    return folder


@pytest.fixture(scope="session")
def loaded(tokenizer_folder: Path) -> Callable[..., Loaded]:
    """`loaded("llama", shots=2)`: a decoder with random weights, and a recipe with these settings of `choice`."""

    def make(model_type: str = "llama", *, seq_len: int = 600, budget: int = 4096, **choice: Any) -> Loaded:
        from transformers import AutoConfig, AutoModelForCausalLM

        tokenizer = load_tokenizer(tokenizer_folder)
        config = AutoConfig.for_model(
            model_type,
            **{
                "vocab_size": len(tokenizer),
                "hidden_size": 32,
                "intermediate_size": 48,
                "num_hidden_layers": 3,
                "num_attention_heads": 4,
                "num_key_value_heads": 2,
                "max_position_embeddings": 800,
                "initializer_range": 0.3,
                "pad_token_id": tokenizer.pad_token_id,
                "bos_token_id": tokenizer.bos_token_id,
                "eos_token_id": tokenizer.eos_token_id,
                **SHAPES[model_type],
            },
        )
        torch.manual_seed(0)
        hf = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
        values = {
            "name": "test",
            "task": "generate",
            "model": {"path": str(tokenizer_folder)},
            "data": {"train": [{"source": "-"}], "seq_len": seq_len},
            "choice": {"chat": "never", **choice},
        }
        return Loaded(Diagnoser(hf).eval(), tokenizer, torch.device("cpu"), "generate", [], [], check(values), budget)

    return make
