"""Who may look at whom: masks that keep packed cases, and candidate answers of one prompt, apart.

Segment ids of a micro-batch flow in, boolean masks (true: may look) flow out. Padding is a segment of its own, so that
no row of a mask is empty, which would make the softmax NaN.
"""

from __future__ import annotations

import torch
from torch import Tensor

# B: rows, L: padded length (queries, then keys).


def block_mask(
    segment_ids_BL: Tensor,
    position_ids_BL: Tensor,
    *,
    causal: bool,
    window: int | None = None,
    branch_ids_BL: Tensor | None = None,
) -> Tensor:
    """Boolean mask [B, 1, L, L]: a token sees its own segment only, and what lies before it if `causal`.

    `window`: of those, only the last so many positions (sliding attention). `branch_ids_BL`: 0 for a prompt and 1.. for
    the answers that continue it; an answer sees the prompt and itself, never another answer.
    """
    mask_BLL = segment_ids_BL[:, :, None] == segment_ids_BL[:, None, :]
    if causal:
        length = segment_ids_BL.shape[1]
        mask_BLL &= torch.ones(length, length, dtype=torch.bool, device=mask_BLL.device).tril()
    if window is not None:
        mask_BLL &= position_ids_BL[:, :, None] - position_ids_BL[:, None, :] < window
    if branch_ids_BL is not None:
        keys_B1L = branch_ids_BL[:, None, :]
        mask_BLL &= (keys_B1L == 0) | (keys_B1L == branch_ids_BL[:, :, None])
    return mask_BLL[:, None]


def padding_mask(segment_ids_BL: Tensor) -> Tensor:
    """Boolean mask [B, 1, 1, L] for rows of one case each: everybody sees the case, nobody the padding."""
    return (segment_ids_BL > 0)[:, None, None, :]


def as_bias(mask: Tensor, dtype: torch.dtype) -> Tensor:
    """The same mask as an addend to the attention scores, which the eager attention of transformers wants."""
    return torch.zeros_like(mask, dtype=dtype).masked_fill(~mask, torch.finfo(dtype).min)
