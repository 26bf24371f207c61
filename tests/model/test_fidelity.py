"""What would be trained as something else than it is, beyond what test_folder.py has."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from distmed.errors import UserError
from distmed.model.fidelity import check_cases_apart
from distmed.model.folder import check_model
from distmed.recipe import Model
from distmed.recipe_file import check

Make = Callable[..., Any]
LONG = {
    "rope_parameters": {
        "rope_type": "longrope",
        "rope_theta": 1e4,
        "short_factor": [1.0] * 4,
        "long_factor": [4.0] * 4,
    },
    "original_max_position_embeddings": 8,
}


@torch.no_grad()
def test_one_long_case_changes_the_others_where_a_model_turns_by_the_longest(tiny: Make) -> None:
    hf = tiny("phi3", **LONG)
    short, long = [5, 17, 23, 9], [*range(10, 22)]
    alone, together = hf(torch.tensor([short])).logits[0], hf(torch.tensor([[*short, *[1] * 8], long])).logits[0]
    plain = tiny("phi3")
    padded = plain(torch.tensor([[*short, *[1] * 8], long])).logits[0]
    assert torch.allclose(plain(torch.tensor([short])).logits[0], padded, atol=1e-5)
    assert not torch.allclose(alone, together, atol=1e-3)


@pytest.mark.parametrize(
    ("settings", "refused"),
    [
        ({"data": {"seq_len": 8}}, False),
        ({"data": {"seq_len": 9}}, True),
        ({"data": {"seq_len": 9, "packing": False}}, True),
        ({"data": {"seq_len": 9, "packing": False}, "train": {"micro_batch": 1}}, False),
        (
            {
                "data": {"seq_len": 9, "packing": False},
                "train": {"micro_batch": 1},
                "cluster": {"num_workers": 2, "sequence_parallel": 2},
            },
            True,
        ),
    ],
)
def test_long_cases_are_trained_alone_where_they_would_change_others(
    settings: dict[str, Any], refused: bool, saved: Make
) -> None:
    folder = saved("phi3", **LONG)
    values = {"name": "test", "task": "generate", "model": {"path": str(folder)}, **settings}
    recipe = check({**values, "data": {"train": [{"source": "-"}], **settings["data"]}})
    facts = check_model(recipe.model, "generate", packing=recipe.data.packing)
    assert facts.turns_at == 8
    if refused:
        with pytest.raises(UserError, match=r"a case of more than 8 tokens changes what .* \(longrope\)") as caught:
            check_cases_apart(recipe, facts)
        assert "data.seq_len=8" in caught.value.hint
    else:
        check_cases_apart(recipe, facts)


def test_other_models_turn_no_case_by_another(saved: Make) -> None:
    assert check_model(Model(path=str(saved("llama"))), "generate", packing=True).turns_at is None
