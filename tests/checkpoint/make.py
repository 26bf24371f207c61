"""Checkpoints made by hand, without DeepSpeed: tensors cut into uneven flat ranges and written rank by rank."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from distmed.checkpoint import folder as folders
from distmed.checkpoint import rng
from distmed.checkpoint.frozen import partial_hash
from distmed.checkpoint.marker import Parameter
from distmed.checkpoint.save import Snapshot
from distmed.checkpoint.slices import even_share
from distmed.checkpoint.tensors import dtype_name


def weights(seed: int = 0) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    shapes = {"hf.embed_tokens.weight": (11, 3), "hf.layer.weight": (5, 7), "hf.layer.bias": (5,), "hf.one": (1,)}
    return {name: torch.randn(shape, generator=generator) for name, shape in shapes.items()}


def snapshots(
    trained: dict[str, Tensor],
    world_size: int,
    *,
    frozen: dict[str, Tensor] | None = None,
    store_frozen: bool = False,
    buffers: dict[str, Tensor] | None = None,
    state: dict[str, Any] | None = None,
) -> list[Snapshot]:
    frozen, buffers = frozen or {}, buffers or {}
    parameters = {
        name: Parameter(list(t.shape), dtype_name(t.dtype), None if name in frozen else "all", stored=store_frozen)
        for name, t in (trained | frozen).items()
    }
    made = []
    for rank in range(world_size):
        cuts = {name: even_share(t.numel(), rank, world_size) for name, t in (trained | frozen).items()}
        tensors = {f"master/{name}": t.flatten()[slice(*cuts[name])] for name, t in trained.items()}
        if store_frozen:
            tensors |= {f"frozen/{name}": t.flatten()[slice(*cuts[name])] for name, t in frozen.items()}
        content: dict[str, Any] = {
            "ranges": {name: list(cut) for name, cut in cuts.items()},
            "frozen_hashes": {
                name: partial_hash(t.flatten()[slice(*cuts[name])], cuts[name][0]) for name, t in frozen.items()
            },
            "rng": rng.capture(),
            "state": state or {},
        }
        if rank == 0:
            tensors |= {f"buffer/{name}": t for name, t in buffers.items()}
            content |= {"parameters": parameters, "groups": {"all": {"lr": 0.1}}, "buffers": list(buffers)}
        made.append(Snapshot(rank, world_size, tensors, content))
    return made


def write(root: Path | str, step: int, world_size: int = 2, attempt: int = 0, **rest: Any) -> str:
    """A complete checkpoint under `root`; its path."""
    path = f"{root}/{folders.name(step, world_size, attempt)}"
    for snapshot in snapshots(rest.pop("trained", None) or weights(step), world_size, **rest):
        snapshot.write(path)
    return path


def flip_byte(file: Path, at: int = -5) -> None:
    data = bytearray(file.read_bytes())
    data[at] ^= 1
    file.write_bytes(data)
