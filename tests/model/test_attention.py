"""Masks let nobody look where they must not, and leave nobody without anything to look at."""

from __future__ import annotations

import torch

from distmed.model.attention import as_bias, block_mask, padding_mask

SEGMENTS = torch.tensor([[1, 1, 2, 2, 2, 0]])
POSITIONS = torch.tensor([[0, 1, 0, 1, 2, 0]])


def drawn(mask: torch.Tensor) -> list[str]:
    return ["".join("x" if seen else "." for seen in row) for row in mask[0, 0].tolist()]


def test_encoder_cases_see_themselves_only() -> None:
    mask = block_mask(SEGMENTS, POSITIONS, causal=False)
    assert drawn(mask) == ["xx....", "xx....", "..xxx.", "..xxx.", "..xxx.", ".....x"]


def test_decoder_cases_see_their_past_only() -> None:
    mask = block_mask(SEGMENTS, POSITIONS, causal=True)
    assert drawn(mask) == ["x.....", "xx....", "..x...", "..xx..", "..xxx.", ".....x"]


def test_a_window_limits_the_past() -> None:
    mask = block_mask(SEGMENTS, POSITIONS, causal=True, window=2)
    assert drawn(mask) == ["x.....", "xx....", "..x...", "..xx..", "...xx.", ".....x"]


def test_answers_see_the_prompt_and_themselves() -> None:
    segments, positions = torch.tensor([[1, 1, 1, 1, 1, 0]]), torch.tensor([[0, 1, 2, 3, 2, 0]])
    branches = torch.tensor([[0, 0, 1, 1, 2, 0]])
    mask = block_mask(segments, positions, causal=True, branch_ids_BL=branches)
    assert drawn(mask) == ["x.....", "xx....", "xxx...", "xxxx..", "xx..x.", ".....x"]


def test_padding_of_a_single_case_sees_the_case() -> None:
    assert drawn(padding_mask(torch.tensor([[1, 1, 0]]))) == ["xx."]


def test_bias_is_zero_where_seen_and_finite_elsewhere() -> None:
    bias = as_bias(padding_mask(torch.tensor([[1, 0]])), torch.bfloat16)
    assert bias[0, 0, 0, 0] == 0
    assert torch.isfinite(bias).all()
    assert bias[0, 0, 0, 1] < -1e30
