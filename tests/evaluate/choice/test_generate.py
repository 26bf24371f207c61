"""Written answers end where training taught the model to end them."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from distmed.evaluate.choice.generate import generate
from distmed.evaluate.loading import Loaded


@pytest.mark.parametrize(("own", "listed"), [(None, [2]), (2, [2]), ([2, 7], [2, 7])])
def test_an_answer_ends_at_the_end_of_a_turn_too(
    loaded: Callable[..., Loaded], monkeypatch: pytest.MonkeyPatch, own: Any, listed: list[int]
) -> None:
    tokenizer = loaded().tokenizer
    asked: list[Any] = []

    def write(ids_BL: torch.Tensor, *, generation_config: Any, **_: Any) -> torch.Tensor:
        asked.append(generation_config.eos_token_id)
        return ids_BL

    network = SimpleNamespace(generate=write, generation_config=SimpleNamespace(eos_token_id=own))
    options: dict[str, Any] = {"device": torch.device("cpu"), "budget": 64, "max_new_tokens": 2}
    for template, more in (("{{ messages[1].content }}<|pad|>", [tokenizer.pad_token_id]), ("{{ 1 }}", [])):
        monkeypatch.setattr(tokenizer, "chat_template", template)
        generate(network, tokenizer, [(5, 6)], **options)
        assert asked.pop() == sorted([*listed, *more])
