"""An answer scored in a tree has the likelihood it has alone."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from distmed.model.candidates import plant, score
from distmed.model.diagnoser import Diagnoser

PROMPTS = [[5, 17, 23, 9], [60, 8], [33, 34, 35, 36, 37, 38, 39]]
ANSWERS = [[41, 42, 43], [50], [41, 90, 13, 14, 15], [12, 3]]
CPU = torch.device("cpu")
Make = Callable[..., Any]


@torch.no_grad()
def alone(hf: Any, prompt: list[int], answer: list[int]) -> float:
    log_p_LV = hf(input_ids=torch.tensor([prompt + answer])).logits[0].log_softmax(-1)
    return sum(log_p_LV[len(prompt) - 1 + i, token].item() for i, token in enumerate(answer))


@pytest.mark.parametrize("model_type", ["llama", "qwen2", "gemma2"])
@pytest.mark.parametrize(("rows", "max_length"), [(8, 64), (2, 10)])
def test_answers_in_a_tree_score_as_alone(model_type: str, rows: int, max_length: int, tiny: Make) -> None:
    hf = tiny(model_type, "generate")
    trees = plant(PROMPTS, [ANSWERS] * 3, rows=rows, max_length=max_length, pad_id=1)
    log_p_NK, tokens_NK = score(Diagnoser(hf), trees, (3, 4), CPU)
    expected_NK = torch.tensor([[alone(hf, prompt, answer) for answer in ANSWERS] for prompt in PROMPTS])
    torch.testing.assert_close(log_p_NK, expected_NK, atol=1e-4, rtol=1e-4)
    assert tokens_NK.tolist() == [[3, 1, 5, 2]] * 3


def test_long_lists_of_answers_go_into_several_rows() -> None:
    trees = plant(PROMPTS[:1], [ANSWERS * 10], rows=1, max_length=16, pad_id=1)
    assert all(tree.input_ids_BL.shape[1] <= 16 for tree in trees)
    assert sum(tree.target_ids_T.numel() for tree in trees) == 10 * sum(map(len, ANSWERS))


def test_a_worker_with_fewer_trees_runs_as_many_passes(tiny: Make) -> None:
    model = Diagnoser(tiny("llama", "generate"))
    passes = []
    model.register_forward_hook(lambda *_: passes.append(1))
    trees = plant(PROMPTS, [ANSWERS] * 3, rows=8, max_length=64, pad_id=1)
    expected = score(model, trees, (3, 4), CPU)
    more = score(model, trees, (3, 4), CPU, passes=4)
    assert len(passes) == len(trees) + 4
    torch.testing.assert_close(more, expected)
    assert score(model, [], (0, 4), CPU, passes=2)[0].shape == (0, 4)


def test_an_empty_answer_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one token"):
        plant(PROMPTS[:1], [[[]]], rows=1, max_length=16, pad_id=1)
