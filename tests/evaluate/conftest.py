"""Scored cases of which everything is known: drawn from a model whose probabilities are right by construction."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.evaluate.door import Door, InProcess, nothing


@dataclass(frozen=True)
class Drawn:
    probabilities_NK: np.ndarray
    gold_N: np.ndarray
    groups: list[str]


@pytest.fixture(scope="session")
def drawn() -> Callable[..., Drawn]:
    """`drawn(cases, classes, sharpness)`: sharpness 1 is calibrated, above it the probabilities are too extreme."""

    def make(cases: int = 300, classes: int = 8, sharpness: float = 1.0, seed: int = 0, groups: int = 60) -> Drawn:
        random = np.random.default_rng(seed)
        logits_NK = 1.5 * random.normal(size=(cases, classes))
        true_NK = np.exp(logits_NK) / np.exp(logits_NK).sum(axis=1, keepdims=True)
        gold_N = (true_NK.cumsum(axis=1) < random.random((cases, 1))).sum(axis=1)
        said_NK = np.exp(sharpness * logits_NK)
        said_NK /= said_NK.sum(axis=1, keepdims=True)
        return Drawn(said_NK.astype(np.float32), gold_N, [f"g{n}" for n in random.integers(0, groups, cases)])

    return make


LABELS = [f"OMIM:{n}" for n in (100, 200, 300, 400)]
NAMES = ["Marfan syndrome", "Fabry disease", "Rett syndrome", "Wilson disease"]


def write_cases(path: Path, cases: int = 60, labels: list[str] = LABELS, seed: int = 0, **changes: Any) -> Path:
    """Phenopackets rows whose findings tell the disease; three cases a paper."""
    random = np.random.default_rng(seed)
    with path.open("w", encoding="utf-8") as file:
        for n in range(cases):
            k = int(random.integers(len(labels)))
            row = {
                "case_id": f"{path.stem}-{n}",
                "pmid": f"{path.stem}-{n // 3}",
                "sex": ["FEMALE", "MALE"][n % 2],
                "age": f"P{5 + n % 50}Y",
                "phenotypes": [f"finding {k} {m}" for m in random.integers(0, 4, 3)],
                "excluded": ["Fever"],
                "disease_id": labels[k],
                "disease": NAMES[k] if labels is LABELS else labels[k],
            }
            file.write(json.dumps(row | changes) + "\n")
    return path


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """`tiny("classify")`: a folder with a small random Llama, a classifier over LABELS or a generator; or a bare backbone."""
    made: dict[str, Path] = {}

    def make(task: str) -> Path:
        if task in made:
            return made[task]
        import torch
        from transformers import AutoConfig, AutoModel, AutoModelForCausalLM, AutoModelForSequenceClassification

        from distmed.model.builtin import make_tiny_llama

        folder = tmp_path_factory.mktemp(task)
        texts = [
            f"female, {n} years old. finding {n % 4} {n}; finding {m}. Not found: Fever"
            for n in range(50)
            for m in NAMES
        ]
        make_tiny_llama(folder, texts, vocab_size=400, max_positions=128)
        config = AutoConfig.from_pretrained(folder)
        auto: Any = AutoModelForCausalLM if task == "generate" else AutoModelForSequenceClassification
        if task == "bare":
            # An encoder as it comes from pretraining: no head at all.
            auto, sizes = AutoModel, {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
            config = AutoConfig.for_model(
                "bert", vocab_size=400, intermediate_size=64, max_position_embeddings=128, **sizes
            )
        if task == "classify":
            config.id2label = dict(enumerate(LABELS))
            config.label2id = {label: k for k, label in enumerate(LABELS)}
            config.label_names = NAMES
        torch.manual_seed(0)
        auto.from_config(config).save_pretrained(folder)
        made[task] = folder
        return folder

    return make


@pytest.fixture
def door(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Door:
    """The verbs in an empty folder, without a cluster."""
    from distmed import session
    from distmed.evaluate import command, predict

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(session, "connected", nothing)
    monkeypatch.setattr(session, "wait_for_room", lambda cluster: None)
    for module in (command, predict):
        monkeypatch.setattr(module, "Pool", InProcess)
    return Door(tmp_path, capfd)
