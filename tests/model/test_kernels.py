"""Other kernels of attention than sdpa: what each is handed, and that packed cases do not see each other in any.

Flash attention has a stand-in here (flash.py). Flex attention runs on a CPU, forward only.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from distmed.errors import UserError
from distmed.model.candidates import plant, score
from distmed.model.diagnoser import Diagnoser
from distmed.model.folder import check_model
from distmed.model.kernels import check_device, cumulative_lengths, use_kernel
from distmed.recipe import Model
from tests.model.flash import Calls, loaded
from tests.model.test_candidates import ANSWERS, CPU, PROMPTS
from tests.model.test_diagnoser import DECODERS

Make = Callable[..., Any]
Rows = list[list[list[int]]]


@pytest.fixture
def flash_calls(monkeypatch: pytest.MonkeyPatch) -> Calls:
    """What the stand-in for flash attention was called with."""
    from transformers import modeling_flash_attention_utils as transformers_flash

    calls: Calls = []
    monkeypatch.setattr(transformers_flash, "lazy_import_flash_attention", lambda *_, **__: loaded(calls))
    return calls


def on_flash(hf: Any) -> Diagnoser:
    """`set_attn_implementation` would want the package."""
    hf.config._attn_implementation_internal = "flash_attention_2"
    return Diagnoser(hf)


@pytest.mark.parametrize("model_type", DECODERS)
@torch.no_grad()
def test_cases_packed_for_flash_attention_have_the_logits_of_each_alone(
    model_type: str, tiny: Make, pack: Make, rows: Rows, flash_calls: Calls
) -> None:
    hf = tiny(model_type, "generate")
    alone_TV = torch.cat([hf(input_ids=torch.tensor([case])).logits[0, :-1] for row in rows for case in row])
    packed_TV = on_flash(hf)(pack(rows))
    torch.testing.assert_close(packed_TV, alone_TV, atol=1e-5, rtol=1e-5)
    assert len(flash_calls) == hf.config.num_hidden_layers
    # The cases of three rows, and the padding behind two of them.
    assert flash_calls[0]["cu_seqlens"].tolist() == [0, 7, 9, 10, 16, 26, 32, 37, 39, 48]


@torch.no_grad()
def test_rows_of_one_case_need_no_lengths(tiny: Make, pack: Make, cases: list[list[int]], flash_calls: Calls) -> None:
    hf = tiny("llama", "generate")
    alone_TV = torch.cat([hf(input_ids=torch.tensor([case])).logits[0, :-1] for case in cases])
    torch.testing.assert_close(on_flash(hf)(pack([[case] for case in cases])), alone_TV, atol=1e-5, rtol=1e-5)
    assert flash_calls[0] == {"rows": 5}


@pytest.mark.parametrize("model_type", ["llama", "gemma2"])
def test_answers_in_a_tree_are_scored_by_another_kernel(model_type: str, tiny: Make, flash_calls: Calls) -> None:
    trees = plant(PROMPTS, [ANSWERS] * 3, rows=8, max_length=64, pad_id=1)
    expected_NK, _ = score(Diagnoser(tiny(model_type, "generate")), trees, (3, 4), CPU)
    model = on_flash(tiny(model_type, "generate"))
    log_p_NK, _ = score(model, trees, (3, 4), CPU)
    torch.testing.assert_close(log_p_NK, expected_NK)
    assert not flash_calls and model.network.config._attn_implementation == "flash_attention_2"


def test_segments_of_equal_numbers_in_neighboring_rows_stay_apart() -> None:
    lengths = cumulative_lengths(torch.tensor([[1, 1, 2, 2, 2, 0, 4, 4, 3]]))
    assert lengths["cu_seq_lens_q"].tolist() == [0, 2, 5, 6, 8, 9]
    assert lengths["max_length_k"] == 3


@pytest.mark.slow
@pytest.mark.parametrize("model_type", ["llama", "mistral", "qwen2"])
@torch.no_grad()
def test_cases_packed_for_flex_attention_have_the_logits_of_each_alone(
    model_type: str, tiny: Make, pack: Make, rows: Rows, monkeypatch: pytest.MonkeyPatch
) -> None:
    from torch.nn.attention.flex_attention import flex_attention
    from transformers.integrations import flex_attention as transformers_flex

    # Compiled it would give the same after a minute of C++.
    monkeypatch.setattr(
        transformers_flex,
        "compile_friendly_flex_attention",
        lambda q, k, v, training=False, **options: flex_attention(q, k, v, **options),
    )
    hf = tiny(model_type, "generate")
    alone_TV = torch.cat([hf(input_ids=torch.tensor([case])).logits[0, :-1] for row in rows for case in row])
    trees = plant(PROMPTS, [ANSWERS] * 3, rows=8, max_length=64, pad_id=1)
    expected_NK, _ = score(Diagnoser(hf), trees, (3, 4), CPU)
    use_kernel(hf, "flex")
    torch.testing.assert_close(Diagnoser(hf)(pack(rows)), alone_TV, atol=1e-5, rtol=1e-5)
    log_p_NK, _ = score(Diagnoser(hf), trees, (3, 4), CPU)
    torch.testing.assert_close(log_p_NK, expected_NK, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(("name", "package"), [("flash2", "flash_attn"), ("flash3", "flash_attn_interface")])
def test_a_flash_attention_that_is_not_installed_is_refused(name: str, package: str, saved: Make) -> None:
    with pytest.raises(UserError, match=f"needs the package {package}, which") as error:
        check_model(Model(path=str(saved("llama")), attention=name), "generate", packing=True)  # type: ignore[arg-type]
    assert "leave it out" in error.value.hint


def test_encoders_are_refused(saved: Make) -> None:
    with pytest.raises(UserError, match="decoders only, and this is a bert model"):
        check_model(Model(path=str(saved("bert", "classify")), attention="flex"), "classify", packing=True)


def test_kernels_without_a_backward_pass_or_precision_are_refused() -> None:
    for name in ("flash2", "flash3", "flex"):
        with pytest.raises(UserError, match=f"attention={name} cannot train on a CPU"):
            check_device(name, gpu=False, bf16=True)
    with pytest.raises(UserError, match="computes in bf16, and this run in fp32") as error:
        check_device("flash2", gpu=True, bf16=False)
    assert "train.precision=bf16" in error.value.hint
    check_device("flash2", gpu=True, bf16=True)
    check_device("flex", gpu=True, bf16=False)
    check_device("sdpa", gpu=False, bf16=False)
