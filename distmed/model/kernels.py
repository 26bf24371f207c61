"""Which kernel computes the attention of a decoder, and how each is told that packed cases do not see each other.

Segment ids of a micro-batch flow in; what the kernel takes flows out: cumulative lengths for flash attention (Dao 2023,
arXiv:2307.08691), a block mask for flex attention (arXiv:2412.05496). A boolean mask for the others is made in attention.py.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import replace
from functools import cache
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn import functional as F

from distmed.errors import UserError
from distmed.model.families import FAMILIES

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch.nn.attention.flex_attention import BlockMask

    from distmed.stream.batch import MicroBatch

# B: rows, L: padded length, N: B x L, S: segments.
SDPA = "sdpa"
# By the recipe's name: that of transformers, and the package that brings it.
FLASH = {"flash2": ("flash_attention_2", "flash_attn"), "flash3": ("flash_attention_3", "flash_attn_interface")}
FLEX = "flex_attention"


def check_kernel(name: str, model_type: str) -> None:
    """Raises UserError for a kernel that is not installed, or an architecture that it was not tested with."""
    if name == SDPA:
        return
    family = FAMILIES.get(model_type)
    if family is None or not family.causal:
        raise UserError(
            f"model.attention={name} was tested with decoders only, and this is a {model_type} model",
            "leave model.attention out",
        )
    if name in FLASH and importlib.util.find_spec(FLASH[name][1]) is None:
        raise UserError(
            f"model.attention={name} needs the package {FLASH[name][1]}, which is not installed",
            "install flash attention for this GPU (https://github.com/Dao-AILab/flash-attention), or leave it out",
        )


def check_device(name: str, *, gpu: bool, bf16: bool) -> None:
    """Raises UserError where the devices of the run or its precision are not what the kernel computes on."""
    if name == SDPA:
        return
    if not gpu:
        raise UserError(
            f"model.attention={name} cannot train on a CPU: it has no backward pass there",
            "leave model.attention out, or use GPUs",
        )
    if name in FLASH and not bf16:
        raise UserError(
            f"model.attention={name} computes in bf16, and this run in fp32",
            "set train.precision=bf16, or leave model.attention out",
        )


def use_kernel(network: Any, name: str) -> None:
    """Let `network` compute its attention by the kernel of that name in the recipe."""
    if name != SDPA:
        network.set_attn_implementation(FLASH[name][0] if name in FLASH else FLEX)


@contextmanager
def computing_by(network: Any, implementation: str) -> Iterator[None]:
    """For as long as this is open another kernel is used, for masks that the network's own cannot take."""
    own = network.config._attn_implementation
    network.config._attn_implementation_internal = implementation
    try:
        yield
    finally:
        network.config._attn_implementation_internal = own


def in_one_row(batch: MicroBatch) -> MicroBatch:
    """The rows one behind the other, as flash attention takes packed cases. Flat indices stay what they are."""
    rows = torch.arange(len(batch.segment_ids_BL), device=batch.segment_ids_BL.device)[:, None]
    segment_ids_BL = batch.segment_ids_BL + rows * (batch.segment_ids_BL.amax() + 1)
    return replace(
        batch,
        input_ids_BL=batch.input_ids_BL.view(1, -1),
        position_ids_BL=batch.position_ids_BL.view(1, -1),
        segment_ids_BL=segment_ids_BL.view(1, -1),
    )


def cumulative_lengths(segment_ids_1N: Tensor) -> dict[str, Any]:
    """Where each segment begins, and the longest: transformers' FlashAttentionKwargs. Padding is a segment, too."""
    segment_ids_N = segment_ids_1N[0]
    begins = F.pad(segment_ids_N[1:] != segment_ids_N[:-1], (1, 0), value=True)
    starts = F.pad(begins.nonzero()[:, 0], (0, 1), value=len(segment_ids_N)).to(torch.int32)
    longest = int(starts.diff().max())
    return {"cu_seq_lens_q": starts, "cu_seq_lens_k": starts, "max_length_q": longest, "max_length_k": longest}


def flex_mask(
    segment_ids_BL: Tensor,
    position_ids_BL: Tensor,
    *,
    causal: bool,
    window: int | None = None,
    branch_ids_BL: Tensor | None = None,
) -> BlockMask:
    """What `attention.block_mask` says, without a table of L x L."""
    from torch.nn.attention.flex_attention import create_block_mask

    def seen(row: Tensor, _: Tensor, query: Tensor, key: Tensor) -> Tensor:
        allowed = segment_ids_BL[row, query] == segment_ids_BL[row, key]
        if causal:
            allowed = allowed & (query >= key)
        if window is not None:
            allowed = allowed & (position_ids_BL[row, query] - position_ids_BL[row, key] < window)
        if branch_ids_BL is not None:
            branch = branch_ids_BL[row, key]
            allowed = allowed & ((branch == 0) | (branch == branch_ids_BL[row, query]))
        return allowed

    rows, length = segment_ids_BL.shape
    # As it is, it makes a table of L x L first; compiled it does not.
    make = _compiled(create_block_mask) if segment_ids_BL.is_cuda else create_block_mask
    return make(seen, rows, None, length, length, device=str(segment_ids_BL.device))


@cache
def _compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    return torch.compile(function)
