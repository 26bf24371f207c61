"""A case packed with others gets the logits that plain transformers gives it alone."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from distmed.model.diagnoser import Diagnoser
from distmed.model.families import FAMILIES

DECODERS = sorted(name for name, family in FAMILIES.items() if family.causal)


Rows = list[list[list[int]]]
Make = Callable[..., Any]


def alone(hf: Any, cases: list[list[int]]) -> Tensor:
    """What plain transformers says of each case by itself."""
    return torch.cat([hf(input_ids=torch.tensor([case])).logits for case in cases])


@pytest.mark.parametrize("model_type", sorted(FAMILIES))
@torch.no_grad()
def test_packed_case_has_the_logits_of_plain_transformers_alone(
    model_type: str, tiny: Make, pack: Make, rows: Rows
) -> None:
    hf = tiny(model_type)
    alone_CK = alone(hf, [case for row in rows for case in row])
    packed_CK = Diagnoser(hf)(pack(rows, labels=[0] * 6))
    torch.testing.assert_close(packed_CK, alone_CK, atol=1e-5, rtol=1e-5)
    assert alone_CK.std() > 0.01


@pytest.mark.parametrize("model_type", sorted(FAMILIES))
@torch.no_grad()
def test_one_case_a_row_has_the_logits_of_plain_transformers_alone(
    model_type: str, tiny: Make, pack: Make, cases: list[list[int]]
) -> None:
    hf = tiny(model_type)
    alone_CK = alone(hf, cases)
    padded_CK = Diagnoser(hf)(pack([[case] for case in cases], labels=[0] * len(cases)))
    torch.testing.assert_close(padded_CK, alone_CK, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("model_type", DECODERS)
@torch.no_grad()
def test_packed_text_has_the_next_token_logits_of_plain_transformers_alone(
    model_type: str, tiny: Make, pack: Make, rows: Rows
) -> None:
    hf = tiny(model_type, "generate")
    alone_TV = torch.cat([hf(input_ids=torch.tensor([case])).logits[0, :-1] for row in rows for case in row])
    packed_TV = Diagnoser(hf)(pack(rows))
    torch.testing.assert_close(packed_TV, alone_TV, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("model_type", ["bert", "roberta", "llama", "qwen2"])
@torch.no_grad()
def test_packed_logits_agree_in_bf16(model_type: str, tiny: Make, pack: Make, rows: Rows) -> None:
    hf = tiny(model_type, initializer_range=0.05).bfloat16()
    alone_CK = alone(hf, [case for row in rows for case in row])
    packed_CK = Diagnoser(hf)(pack(rows, labels=[0] * 6))
    torch.testing.assert_close(packed_CK, alone_CK, atol=1e-2, rtol=1e-2)


@pytest.mark.parametrize("model_type", ["bert", "llama"])
@torch.no_grad()
def test_eager_attention_sees_the_same_masks(model_type: str, tiny: Make, pack: Make, rows: Rows) -> None:
    batch = pack(rows, labels=[0] * 6)
    sdpa_CK = Diagnoser(tiny(model_type))(batch)
    eager_CK = Diagnoser(tiny(model_type, attn_implementation="eager"))(batch)
    torch.testing.assert_close(eager_CK, sdpa_CK, atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_architecture_not_tested_for_packing_runs_one_case_a_row_and_refuses_more(
    tiny: Make, pack: Make, cases: list[list[int]], rows: Rows
) -> None:
    hf = tiny("llama")
    model = Diagnoser(hf)
    model.family = None
    alone_CK = alone(hf, cases)
    torch.testing.assert_close(model(pack([[c] for c in cases], labels=[0] * 5)), alone_CK, atol=1e-5, rtol=1e-5)
    with pytest.raises(ValueError, match="one case a row"):
        model(pack(rows, labels=[0] * 6))


def test_gradients_reach_every_parameter_that_plain_transformers_trains(tiny: Make, pack: Make, rows: Rows) -> None:
    for model_type in ("bert", "roberta", "llama"):
        hf = tiny(model_type)
        Diagnoser(hf)(pack(rows, labels=[0] * 6)).square().sum().backward()
        packed = {
            name: parameter.grad.clone() for name, parameter in hf.named_parameters() if parameter.grad is not None
        }
        hf.zero_grad()
        sum(hf(input_ids=torch.tensor([case])).logits.square().sum() for row in rows for case in row).backward()
        for name, parameter in hf.named_parameters():
            assert (parameter.grad is None) == (name not in packed), name
            if parameter.grad is not None:
                torch.testing.assert_close(packed[name], parameter.grad, atol=1e-4, rtol=1e-3, msg=name)
