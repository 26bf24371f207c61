"""Activations that are not kept where they were made: moved to the host until the backward pass, or made again in tiles.

Both leave every value as it is. Layers that are recomputed keep their input alone; `offloaded` moves these to host memory.
Between the two matrix products of an MLP a token is several times as wide as anywhere else; `tile_mlps` lets so much exist for
a part of the tokens only (as in ALST, arXiv:2506.13996).
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

# Smaller ones, such as weights of norms, are not worth a copy.
LEAST_BYTES = 1 << 16


def offloaded() -> Any:
    """What is saved for the backward pass inside of this waits for it in host memory; pinned, where it comes from a GPU."""

    def pack(tensor: Tensor) -> tuple[torch.device, Tensor]:
        return tensor.device, _to_host(tensor) if tensor.nbytes >= LEAST_BYTES else tensor

    def unpack(packed: tuple[torch.device, Tensor]) -> Tensor:
        device, tensor = packed
        return tensor.to(device, non_blocking=True)

    return torch.autograd.graph.saved_tensors_hooks(pack, unpack)


def _to_host(tensor: Tensor) -> Tensor:
    if tensor.device.type == "cpu":
        return tensor
    host = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=True)
    return host.copy_(tensor, non_blocking=True)


def tile_mlps(network: nn.Module, tiles: int) -> None:
    """Let the MLP of each of the layers of a decoder compute a part of the tokens at a time, in either pass.

    Their number is fixed, not their size: under ZeRO-3 each part gathers the weights, and workers must gather equally often.
    """
    for name, module in network.named_modules():
        if name.rpartition(".")[2] == "mlp":
            module.forward = functools.partial(_tiled, module.forward, tiles)


def _tiled(forward: Callable[[Tensor], Tensor], tiles: int, x: Tensor) -> Tensor:
    parts = x.flatten(0, -2).tensor_split(tiles)
    if torch.is_grad_enabled():
        done = [checkpoint(forward, part, use_reentrant=False) for part in parts]
    else:
        done = [forward(part) for part in parts]
    return torch.cat(done).view(x.shape)
