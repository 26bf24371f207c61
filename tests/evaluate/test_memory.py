"""Scoring on a device that is too small: batches become smaller, and what no batch makes fit is told in two lines."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from distmed.evaluate import choice, inference, loading, pool, predict
from distmed.evaluate.inference import Scores
from distmed.evaluate.loading import Loaded, Opened
from distmed.evaluate.pool import Scorer
from tests.evaluate.door import Door

LABELS = ["flu", "gout"]
TOLD = "CUDA out of memory. Tried to allocate 2.00 GiB."


@dataclass
class Device:
    """`room`: the tokens of one pass that it can hold; `holds`: whether the model itself fits."""

    room: int = 4096
    holds: bool = True

    def take(self, model: Loaded) -> None:
        if model.token_budget > self.room:
            raise torch.OutOfMemoryError(TOLD)


@pytest.fixture
def device(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Device:
    """What the scorers of a model with 4096 tokens a pass run on."""
    device = Device()
    recipe: Any = SimpleNamespace(data=SimpleNamespace(seq_len=512), model_dump=lambda **_: {})
    nothing: Any = None

    def load(opened: Opened) -> Loaded:
        if not device.holds:
            raise torch.OutOfMemoryError(TOLD)
        return Loaded(nothing, nothing, torch.device("cpu"), "classify", LABELS, LABELS, recipe, 4096)

    def score_cases(model: Loaded, cases: list[Any]) -> Scores:
        device.take(model)
        n = len(cases)
        return Scores(np.full((n, 2), 0.5, np.float32), ["hash"] * n, np.ones(n, np.int32), np.zeros(n, bool))

    def open_model(name: str, *_: object) -> Opened:
        return Opened(name, tmp_path, None, "classify", LABELS, LABELS, recipe, "hash", "llama", False)

    monkeypatch.setattr(predict, "open_model", open_model)
    monkeypatch.setattr(loading, "load", load)
    monkeypatch.setattr(inference, "score_cases", score_cases)
    monkeypatch.setattr(pool, "UNIT", 2)
    return device


@pytest.fixture
def words(tmp_path: Path) -> tuple[object, ...]:
    (tmp_path / "new.csv").write_text("text\nfever\ncough\nitch\ngout\n")
    return ("predict", "model", "--data", tmp_path / "new.csv", "--out", tmp_path / "answers.jsonl")


def test_batches_are_halved_until_they_fit(door: Door, device: Device, words: tuple[object, ...]) -> None:
    device.room = 1000
    said = door.run(*words)
    assert said.count("out of memory") == 1
    assert "note: out of memory: from now on at most 512 tokens are read at once" in said
    assert [json.loads(line)["predicted"] for line in Path("answers.jsonl").read_text().splitlines()] == ["flu"] * 4


def test_what_fits_is_scored_in_silence(door: Door, device: Device, words: tuple[object, ...]) -> None:
    assert "out of memory" not in door.run(*words)


def test_a_case_that_does_not_fit_alone_is_told(door: Door, device: Device, words: tuple[object, ...]) -> None:
    device.room = 0
    error, fix = door.refuse(*words)
    assert error.startswith("out of memory on ") and error.endswith(f"one case at a time: {TOLD}")
    assert "data.seq_len (now 512)" in fix and "take a larger one" in fix
    assert [path.name for path in door.folder.iterdir()] == ["new.csv"]


def test_a_model_that_does_not_fit_is_told(door: Door, device: Device, words: tuple[object, ...]) -> None:
    device.holds = False
    error, fix = door.refuse(*words)
    assert error.endswith(f"while the model was loaded: {TOLD}") and "--dtype bf16" in fix


def test_exam_questions_are_read_in_smaller_batches_too(
    device: Device, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    device.room = 2048

    class Letters:
        def __init__(self, model: Loaded, shots: list[Any]) -> None:
            self.model = model

        def letters(self, cases: list[Any]) -> list[dict[str, Any]]:
            device.take(self.model)
            return [{"predicted": "A", "confidence": 1.0} for _ in cases]

    monkeypatch.setattr(choice, "ChoiceScorer", Letters)
    opened: Any = None
    table = Scorer(opened, 1, []).score([opened], "letters")
    assert table["predicted"].to_pylist() == ["A"] and table.schema.metadata == {pool.BUDGET: b"2048"}
