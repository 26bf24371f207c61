"""What activations need: the model's own forward and backward pass run on the meta device, where tensors have no data.

A small meta model and a batch of one row flow in, bytes flow out: those that wait for the backward pass, and the peak.
Nothing is allocated or computed, so a layer of any size takes milliseconds, whatever its architecture.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter

# B: rows, H: heads, G: key-value heads, L: length, E: head size.


@dataclass(frozen=True)
class Traced:
    """Bytes above what was there before: `saved` between the passes, `peak` at the highest."""

    saved: int
    peak: int


def trace(forward: Callable[[], Tensor], parameters: list[Tensor]) -> Traced:
    """Run `forward` and its backward pass on meta tensors. Gradients of `parameters` count only while they are made:
    ZeRO takes them away at once."""
    hooks = [
        parameter.register_post_accumulate_grad_hook(_drop_gradient)
        for parameter in parameters
        if parameter.requires_grad
    ]
    try:
        with _LiveBytes() as live, _fused_attention(), _nothing_to_look_for():
            for parameter in parameters:
                live.ignore(parameter)
            out = forward()
            saved = live.now
            if out.requires_grad:
                out.sum().backward()
        return Traced(saved, live.peak)
    finally:
        for hook in hooks:
            hook.remove()


def _drop_gradient(parameter: Tensor) -> None:
    parameter.grad = None


class _LiveBytes(TorchDispatchMode):
    """Counts the bytes of all storages that operators make, until they are let go."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0
        self.peak = 0
        self._known: weakref.WeakSet[Any] = weakref.WeakSet()

    def ignore(self, tensor: Tensor) -> None:
        self._known.add(tensor.untyped_storage())

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        for value in tree_iter(out):
            if isinstance(value, Tensor):
                self._add(value.untyped_storage())
        return out

    def _add(self, storage: Any) -> None:
        if storage in self._known:
            return
        self._known.add(storage)
        size = storage.nbytes()
        self.now += size
        self.peak = max(self.peak, self.now)
        weakref.finalize(storage, self._gone, size)

    def _gone(self, size: int) -> None:
        self.now -= size


@contextmanager
def _fused_attention() -> Iterator[None]:
    """Attention as the fused kernels do it, which keep no table of scores; on meta torch would take the plain one.

    A mode that intercepts it would not see what is recomputed inside a backward pass.
    """
    own = F.scaled_dot_product_attention

    def fused(query: Tensor, key: Tensor, value: Tensor, attn_mask: Tensor | None = None, *_: Any, **__: Any) -> Tensor:
        return _FusedAttention.apply(query, key, value, attn_mask)

    F.scaled_dot_product_attention = fused
    try:
        yield
    finally:
        F.scaled_dot_product_attention = own


@contextmanager
def _nothing_to_look_for() -> Iterator[None]:
    """On meta there is nothing to read, where transformers looks into a mask for padding, which it takes for granted here, and
    without a mask into position ids for packed cases. A batch of packed cases comes with a mask."""
    from transformers import masking_utils

    names = {"find_packed_sequence_indices": None, "fast_all": False, "_ignore_bidirectional_mask_sdpa": False}
    own = {name: getattr(masking_utils, name) for name in names}
    for name, found in names.items():
        setattr(masking_utils, name, lambda *_, found=found, **__: found)
    try:
        yield
    finally:
        for name, function in own.items():
            setattr(masking_utils, name, function)


class _FusedAttention(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, query_BHLE: Tensor, key_BGLE: Tensor, value_BGLE: Tensor, mask: Tensor | None) -> Tensor:
        rows, heads, length, _ = query_BHLE.shape
        # As wide as the values, which in multi-head latent attention are narrower than queries.
        out_BLHE = query_BHLE.new_empty(rows, length, heads, value_BGLE.shape[-1])
        kept = [query_BHLE, key_BGLE, value_BGLE, out_BLHE, torch.empty_like(query_BHLE[..., 0], dtype=torch.float32)]
        # A boolean mask becomes an addend, which each layer keeps for itself.
        kept += [] if mask is None else [torch.empty_like(mask, dtype=query_BHLE.dtype)]
        ctx.save_for_backward(*kept)
        return out_BLHE.transpose(1, 2)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        query_BHLE, key_BGLE, value_BGLE = ctx.saved_tensors[:3]
        return torch.empty_like(query_BHLE), torch.empty_like(key_BGLE), torch.empty_like(value_BGLE), None
