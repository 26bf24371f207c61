"""The losses against those of torch and against their formulas."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch.nn import functional as F

from distmed.model.loss import loss_sum, plain_loss_sum
from distmed.recipe import Train
from distmed.stream.batch import MicroBatch

LABELS = [2, 0, -1, 1]
WEIGHTS = torch.tensor([0.5, 2.0, 3.0, 1.0])
Make = Callable[..., Any]


@pytest.fixture
def logits_CK() -> torch.Tensor:
    return torch.randn(4, 3, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def batch(pack: Make) -> MicroBatch:
    return replace(pack([[[5, 6]] for _ in LABELS], labels=LABELS), case_weight_C=WEIGHTS)


def by_hand(logits_CK: torch.Tensor, **options: Any) -> torch.Tensor:
    """Weighted sum over the cases that have a label."""
    known = torch.tensor(LABELS) >= 0
    loss_C = F.cross_entropy(logits_CK[known], torch.tensor(LABELS)[known], reduction="none", **options)
    return (loss_C * WEIGHTS[known]).sum()


def test_cross_entropy_is_a_weighted_sum_without_unlabelled_cases(logits_CK: torch.Tensor, batch: MicroBatch) -> None:
    torch.testing.assert_close(loss_sum(logits_CK, batch, Train()), by_hand(logits_CK))


def test_label_smoothing_is_that_of_torch(logits_CK: torch.Tensor, batch: MicroBatch) -> None:
    torch.testing.assert_close(
        loss_sum(logits_CK, batch, Train(label_smoothing=0.1)), by_hand(logits_CK, label_smoothing=0.1)
    )


def test_focal_loss_follows_its_formula_and_is_cross_entropy_at_gamma_0(
    logits_CK: torch.Tensor, batch: MicroBatch
) -> None:
    p_C = logits_CK.softmax(-1)[[0, 1, 3], [2, 0, 1]]
    expected = (-((1 - p_C) ** 2) * p_C.log() * WEIGHTS[[0, 1, 3]]).sum()
    torch.testing.assert_close(loss_sum(logits_CK, batch, Train(loss="focal", focal_gamma=2.0)), expected)
    torch.testing.assert_close(loss_sum(logits_CK, batch, Train(loss="focal", focal_gamma=0.0)), by_hand(logits_CK))


def test_focal_loss_of_a_certain_case_has_a_finite_gradient(batch: MicroBatch) -> None:
    logits_CK = torch.tensor([[0.0, 0.0, 200.0]] * 4, requires_grad=True)
    loss_sum(logits_CK, batch, Train(loss="focal", focal_gamma=0.5)).backward()
    assert logits_CK.grad is not None
    assert torch.isfinite(logits_CK.grad).all()


def test_logit_adjustment_adds_the_log_prior(logits_CK: torch.Tensor, batch: MicroBatch) -> None:
    log_prior_K = torch.tensor([0.7, 0.2, 0.1]).log()
    adjusted = loss_sum(logits_CK, batch, Train(loss="logit_adjusted"), log_prior_K)
    torch.testing.assert_close(adjusted, by_hand(logits_CK + log_prior_K))


def test_token_loss_is_a_float32_sum(pack: Make) -> None:
    batch = pack([[[5, 6, 7]], [[8, 9]]])
    logits_TV = torch.randn(3, 97).bfloat16()
    loss = loss_sum(logits_TV, batch, Train())
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss, F.cross_entropy(logits_TV.float(), torch.tensor([6, 7, 9])) * 3)


def test_evaluation_loss_knows_no_weights_and_no_smoothing(
    logits_CK: torch.Tensor, batch: MicroBatch, pack: Make
) -> None:
    known = [0, 1, 3]
    expected = F.cross_entropy(logits_CK[known], torch.tensor([2, 0, 1]), reduction="sum")
    torch.testing.assert_close(plain_loss_sum(logits_CK, batch), expected)
    logits_TV = torch.randn(1, 97)
    torch.testing.assert_close(
        plain_loss_sum(logits_TV, pack([[[5, 6]]])), F.cross_entropy(logits_TV, torch.tensor([6]))
    )


def test_a_batch_without_any_label_gives_zero_and_a_gradient(logits_CK: torch.Tensor, batch: MicroBatch) -> None:
    logits_CK.requires_grad_()
    loss = loss_sum(logits_CK, replace(batch, case_label_C=torch.full((4,), -1)), Train(label_smoothing=0.1))
    loss.backward()
    assert loss.item() == 0.0
    assert logits_CK.grad is not None
    assert not logits_CK.grad.any()
