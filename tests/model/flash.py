"""A stand-in for flash attention, which runs on GPUs only: its signature and its arithmetic, so that what transformers does
with what it is handed, and the arguments themselves, can be tested anywhere."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

Calls = list[dict[str, Any]]


def flash(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    dropout_p: float = 0.0,
    softmax_scale: float | None = None,
    causal: bool = False,
    window_size: tuple[int, int] = (-1, -1),
    softcap: float = 0.0,
    deterministic: bool = False,
) -> Tensor:
    """Rows [B, L, heads, head size], as flash_attn_func has them, by the formula."""
    length, groups = q.shape[1], q.shape[2] // k.shape[2]
    k, v = k.repeat_interleave(groups, dim=2), v.repeat_interleave(groups, dim=2)
    scores = torch.einsum("blhe,bmhe->bhlm", q, k) * (softmax_scale or 1 / math.sqrt(q.shape[-1]))
    if softcap:
        scores = softcap * torch.tanh(scores / softcap)
    distance = torch.arange(length)[:, None] - torch.arange(length)[None, :]
    seen = distance >= 0 if causal else torch.ones_like(distance, dtype=torch.bool)
    if window_size[0] >= 0:
        seen = seen & (distance <= window_size[0])
    return torch.einsum("bhlm,bmhe->blhe", scores.masked_fill(~seen, -math.inf).softmax(-1), v)


def loaded(calls: Calls) -> Any:
    """What transformers' `lazy_import_flash_attention` would give; `calls` gets what it is called with."""
    from transformers.modeling_flash_attention_utils import _lazy_define_process_function

    def whole(
        q: Tensor,
        k: Tensor,
        v: Tensor,
        dropout_p: float = 0.0,
        softmax_scale: float | None = None,
        causal: bool = False,
        window_size: tuple[int, int] = (-1, -1),
        softcap: float = 0.0,
    ) -> Tensor:
        calls.append({"rows": q.shape[0]})
        return flash(q, k, v, dropout_p, softmax_scale, causal, window_size, softcap)

    def varlen(
        q: Tensor,
        k: Tensor,
        v: Tensor,
        cu_seqlens_q: Tensor,
        cu_seqlens_k: Tensor,
        max_seqlen_q: int,
        max_seqlen_k: int,
        dropout_p: float = 0.0,
        softmax_scale: float | None = None,
        causal: bool = False,
        window_size: tuple[int, int] = (-1, -1),
        softcap: float = 0.0,
    ) -> Tensor:
        calls.append({"cu_seqlens": cu_seqlens_q, "longest": max_seqlen_q})
        assert torch.equal(cu_seqlens_q, cu_seqlens_k) and cu_seqlens_q.dtype == torch.int32
        cuts = cu_seqlens_q.tolist()
        assert max_seqlen_q == max_seqlen_k == max(end - begin for begin, end in pairwise(cuts))
        parts = [
            flash(q[None, a:b], k[None, a:b], v[None, a:b], dropout_p, softmax_scale, causal, window_size, softcap)[0]
            for a, b in pairwise(cuts)
        ]
        return torch.cat(parts)

    return (whole, varlen, None, None, None), (_lazy_define_process_function(varlen), dict)
