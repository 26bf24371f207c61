"""Weights and priors of the classes, from how many training cases each has.

Counts per class flow in, numbers over the K classes flow out: weights for the loss, logarithms of shares for logit adjustment.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import torch

    from distmed.stream.plan import StreamPlan

BETA = 0.999
"""Of the effective number of samples, (1 - beta^n) / (1 - beta): arXiv:1901.05555."""


def class_weights(counts_K: NDArray[np.int64], kind: Literal["none", "balanced", "effective"]) -> NDArray[np.float32]:
    """Weight of each class, 1 on average over the training cases. A class without a case weighs 0, except for `none`."""
    if kind == "none":
        return np.ones(len(counts_K), dtype=np.float32)
    effective_K = counts_K.astype(np.float64) if kind == "balanced" else (1 - BETA**counts_K) / (1 - BETA)
    weight_K = np.divide(1, effective_K, out=np.zeros(len(counts_K)), where=counts_K > 0)
    return (weight_K * counts_K.sum() / (weight_K * counts_K).sum()).astype(np.float32)


def log_shares(counts_K: NDArray[np.int64], weights_K: NDArray[np.float32]) -> NDArray[np.float32]:
    """Logarithm of each class's share in the loss, which is that of its cases times their weight.

    With it as the prior, logits are those of equally frequent classes, whatever the weights (arXiv:2007.07314, theorem 1);
    `balanced` weights do that by themselves, and leave nothing to adjust. A class without any case counts as having one.
    """
    share_K = np.where(counts_K > 0, counts_K * weights_K.astype(np.float64), 1)
    return np.log(share_K / share_K.sum()).astype(np.float32)


def log_prior(plan: StreamPlan, device: torch.device) -> torch.Tensor:
    """log_prior_K of what the model is trained on."""
    import torch

    return torch.from_numpy(log_shares(plan.class_counts_K, plan.class_weights_K)).to(device)


def nothing_to_adjust(plan: StreamPlan) -> bool:
    """Whether all classes have the same share in the loss, so that `logit_adjusted` is `cross_entropy`."""
    seen_K = plan.class_counts_K > 0
    return bool(np.ptp(log_shares(plan.class_counts_K, plan.class_weights_K)[seen_K]) < 0.01)
