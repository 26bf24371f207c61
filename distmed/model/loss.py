"""The losses, always as a sum: whoever calls divides by the targets of the whole global batch.

Logits and a micro-batch flow in, one float32 scalar flows out. Cases without a known label (label -1) add nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional as F

from distmed.recipe import Train

if TYPE_CHECKING:
    from distmed.stream.batch import MicroBatch

# C: cases, K: labels, T: target tokens, V: vocabulary.


def loss_sum(logits: Tensor, batch: MicroBatch, train: Train, log_prior_K: Tensor | None = None) -> Tensor:
    """The training loss, summed over target tokens (generate) or, weighted, over cases (classify).

    `log_prior_K`: logarithm of each class's share in training, for `logit_adjusted` (arXiv:2007.07314, tau = 1).
    `focal` is arXiv:1708.02002 without its alpha, for which there are class weights.
    """
    if batch.target_ids_T is not None:
        return F.cross_entropy(
            logits.float(), batch.target_ids_T, reduction="sum", label_smoothing=train.label_smoothing
        )
    logits_CK = logits.float()
    if train.loss == "logit_adjusted":
        if log_prior_K is None:
            raise ValueError("logit_adjusted needs the class shares of the training data")
        logits_CK = logits_CK + log_prior_K
    loss_C = F.cross_entropy(
        logits_CK, batch.case_label_C, reduction="none", ignore_index=-1, label_smoothing=train.label_smoothing
    )
    if train.loss == "focal":
        loss_C = loss_C * _focus(logits_CK, batch.case_label_C, train.focal_gamma)
    return (loss_C * batch.case_weight_C).sum()


def training_loss(
    model: Callable[..., Tensor], batch: MicroBatch, train: Train, log_prior_K: Tensor | None = None
) -> Tensor:
    """`loss_sum` of the model's logits, which are never whole where they run over a vocabulary.

    `model`: a Diagnoser, or an engine around one.
    """
    if batch.target_ids_T is None:
        return loss_sum(model(batch), batch, train, log_prior_K)
    return model(batch, label_smoothing=train.label_smoothing).sum()


def plain_loss_sum(logits: Tensor, batch: MicroBatch) -> Tensor:
    """Cross entropy without weights, smoothing or adjustment, summed: what an evaluation reports."""
    target = batch.case_label_C if batch.target_ids_T is None else batch.target_ids_T
    return F.cross_entropy(logits.float(), target, reduction="sum", ignore_index=-1)


def _focus(logits_CK: Tensor, label_C: Tensor, gamma: float) -> Tensor:
    """(1 - p of the right class) ** gamma."""
    log_p_C = torch.log_softmax(logits_CK, dim=-1).gather(1, label_C.clamp_min(0)[:, None])[:, 0]
    # At p = 1 the power's slope is infinite for gamma < 1.
    return (-torch.expm1(log_p_C)).clamp_min(1e-8) ** gamma
