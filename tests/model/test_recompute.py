"""Activations that are moved to the host or made again in tiles: the same numbers, and less memory."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from distmed.model import recompute
from distmed.model.diagnoser import Diagnoser
from distmed.model.families import FAMILIES
from distmed.model.load import load_model
from distmed.plan.trace import trace

Make = Callable[..., Any]
DECODERS = sorted(name for name, family in FAMILIES.items() if family.causal)


def gradients(model: Diagnoser, batch: Any) -> tuple[Tensor, dict[str, Tensor]]:
    model.zero_grad()
    losses_T = model(batch, label_smoothing=0.0)
    losses_T.sum().backward()
    return losses_T, {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("model_type", DECODERS)
def test_tiles_give_the_same_losses_and_gradients(
    model_type: str, tiny: Make, pack: Make, rows: list[list[list[int]]]
) -> None:
    model, batch = Diagnoser(tiny(model_type, "generate")), pack(rows)
    expected_T, expected = gradients(model, batch)
    tiled = 0

    def count(*_: Any) -> None:
        nonlocal tiled
        tiled += 1

    layer = model.network.model.layers[0].mlp
    layer.down_proj.register_forward_pre_hook(count)
    recompute.tile_mlps(model.network, 5)
    losses_T, found = gradients(model, batch)
    assert tiled == 10  # five parts, each of them twice
    torch.testing.assert_close(losses_T, expected_T, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


def test_an_mlp_in_tiles_needs_a_fraction_of_the_memory() -> None:
    from transformers import LlamaConfig
    from transformers.models.llama.modeling_llama import LlamaMLP

    def peak(tiles: int) -> int:
        with torch.device("meta"):
            holder = torch.nn.ModuleDict({"mlp": LlamaMLP(LlamaConfig(hidden_size=64, intermediate_size=512))})
            x_LD = torch.empty(4096, 64, requires_grad=True)
        if tiles > 1:
            recompute.tile_mlps(holder, tiles)
        return trace(lambda: holder["mlp"](x_LD), list(holder.parameters())).peak

    assert peak(16) < peak(1) / 4


def test_inputs_of_layers_wait_in_host_memory(
    saved: Make, recipe: Make, pack: Make, rows: list[list[list[int]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = saved("llama")
    batch = pack(rows)

    def of(checkpointing: bool | str) -> Diagnoser:
        made = recipe(folder, "generate", train={"activation_checkpointing": checkpointing})
        return load_model(made, folder, [], [], {}, torch.device("cpu")).train()

    expected_T, expected = gradients(of(False), batch)
    moved: list[Tensor] = []

    def to_host(tensor: Tensor) -> Tensor:
        moved.append(tensor.clone())
        return moved[-1]

    monkeypatch.setattr(recompute, "LEAST_BYTES", batch.input_ids_BL.numel() * 32 * 4)
    monkeypatch.setattr(recompute, "_to_host", to_host)
    losses_T, found = gradients(of("offload"), batch)
    torch.testing.assert_close(losses_T, expected_T, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)
    # The input of each of the three layers, and what the last norm keeps of its own.
    assert 3 <= len(moved) <= 6
    assert all(tensor.shape == (*batch.input_ids_BL.shape, 32) for tensor in moved)
    moved.clear()
    gradients(of(True), batch)
    assert not moved
