"""Requests that share tokens score as they do alone, and are read once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from distmed.evaluate.choice import likelihood
from distmed.evaluate.choice.likelihood import Likelihoods
from distmed.evaluate.choice.tokens import Request
from distmed.evaluate.choice.trie import plant

CPU = torch.device("cpu")
STEM = [1, 5, 17, 23, 9, 40, 12, 77, 31, 8, 60, 33]
Make = Callable[..., Any]


def units(shared: int) -> list[list[Request]]:
    """Questions that begin with the same tokens; options of one, of many tokens, one the beginning of another one."""
    before = STEM * shared
    stems = [[*before, 41, 42, 43], [*before, 50], [*before, 41, 42, 44, 45, 46, 47, 48]]
    answers = [[60], [61], [60, 61, 62], [60, 61, 62, 63, 64, 65], [70, 3]]
    asked = [[Request(stem, answer) for answer in answers] for stem in stems]
    # A question again, its options in another order: what follows the stem differs, then the letters.
    rotations = [
        Request([*before, 9, 9, *turn, 7], [letter]) for turn in ([20, 21, 22], [22, 20, 21]) for letter in (80, 81)
    ]
    return [*asked, rotations]


@torch.no_grad()
def alone(hf: Any, request: Request) -> float:
    log_p_LV = hf(input_ids=torch.tensor([request.prompt + request.answer])).logits[0].log_softmax(-1)
    return sum(log_p_LV[len(request.prompt) - 1 + i, token].item() for i, token in enumerate(request.answer))


@pytest.mark.parametrize("model_type", ["llama", "mistral", "qwen2", "gemma2", "gpt_neox"])
@pytest.mark.parametrize("budget", [16, 4096])
@pytest.mark.parametrize("shared", [0, 5])
def test_requests_score_as_alone(model_type: str, budget: int, shared: int, loaded: Make) -> None:
    model = loaded(model_type)
    score = Likelihoods(model.diagnoser, CPU, budget, pad_id=0)
    asked = units(shared)
    expected = [[alone(model.diagnoser.hf, request) for request in unit] for unit in asked]
    for scores, right in zip(score(asked), expected, strict=True):
        assert scores == pytest.approx(right, abs=1e-4)


def test_logits_in_blocks_are_the_same(loaded: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    model = loaded()
    whole = Likelihoods(model.diagnoser, CPU, 4096, pad_id=0)(units(1))
    monkeypatch.setattr(likelihood, "LOGITS_AT_ONCE", 3 * len(model.tokenizer))
    blocks = Likelihoods(model.diagnoser, CPU, 4096, pad_id=0)(units(1))
    for a, b in zip(whole, blocks, strict=True):
        assert a == pytest.approx(b, abs=1e-5)


def test_a_shared_beginning_is_read_once() -> None:
    (trie,) = plant(units(50), hidden_size=32, budget=10_000, pad_id=0)
    once = len(STEM) * 50
    assert trie.input_ids_BL.shape[0] == 1
    assert trie.input_ids_BL.shape[1] < once + 60
    separate = sum(request.read for unit in units(50) for request in unit)
    assert separate > 15 * once


def test_questions_without_a_common_beginning_get_rows_of_their_own() -> None:
    asked = [[Request([n, *STEM], [60]), Request([n, *STEM], [61])] for n in range(4)]
    (trie,) = plant(asked, hidden_size=32, budget=10_000, pad_id=0)
    assert trie.input_ids_BL.shape == (4, 1 + len(STEM))
    assert not trie.branches  # one path a row needs no mask


def test_a_forward_pass_stays_within_its_budget() -> None:
    tries = plant(units(0) * 5, hidden_size=32, budget=100, pad_id=0)
    assert len(tries) > 1
    assert all(trie.input_ids_BL.numel() <= 100 for trie in tries)
    answered = torch.cat([trie.request_T for trie in tries])
    assert set(answered.tolist()) == set(range(5 * sum(map(len, units(0)))))


def test_no_question_at_all_gives_no_score(loaded: Make) -> None:
    score = Likelihoods(loaded().diagnoser, CPU, 64, pad_id=0)
    assert score([]) == []
    assert score([[], []]) == [[], []]
