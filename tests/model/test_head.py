"""The loss over a vocabulary: in chunks it is the plain one, to the gradient, and its memory is that of a chunk."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from distmed.model import head
from distmed.model.diagnoser import Diagnoser
from distmed.model.head import LossHead, Targets
from distmed.model.loss import loss_sum, training_loss
from distmed.plan.memory import loss_buffer
from distmed.plan.trace import trace
from distmed.recipe import Train

VOCABULARY = 211
LENGTHS = {"one chunk": 1000, "even chunks": 8, "a rest": 7, "a token each": 1}


@pytest.fixture(params=LENGTHS.values(), ids=LENGTHS)
def chunk(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(head, "CHUNK_ELEMENTS", request.param * VOCABULARY)


def layer(*, bias: bool = False) -> LossHead:
    torch.manual_seed(3)
    return LossHead(24, VOCABULARY, bias=bias)


def plain(layer: LossHead, states_TD: Tensor, targets: Targets) -> Tensor:
    logits_TV = layer(states_TD).float()
    if targets.cap is not None:
        logits_TV = torch.tanh(logits_TV / targets.cap) * targets.cap
    return F.cross_entropy(logits_TV, targets.ids_T, reduction="none", label_smoothing=targets.label_smoothing)


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("options", [{}, {"label_smoothing": 0.1}, {"cap": 2.0}], ids=["plain", "smoothed", "capped"])
@pytest.mark.usefixtures("chunk")
def test_losses_and_gradients_are_those_of_whole_logits(bias: bool, options: dict[str, float]) -> None:
    ours, theirs = layer(bias=bias), layer(bias=bias)
    torch.manual_seed(1)
    states_TD = torch.randn(24, 24) * 3
    targets = Targets(torch.randint(VOCABULARY, (24,)), **options)
    weight_T = torch.rand(24)
    found = {}
    for name, module, losses_of in (("ours", ours, ours), ("theirs", theirs, lambda s, t: plain(theirs, s, t))):
        states = states_TD.clone().requires_grad_()
        losses_T = losses_of(states, targets)
        (losses_T * weight_T).sum().backward()
        found[name] = [losses_T.detach(), states.grad, *(p.grad for p in module.parameters())]
    for mine, reference in zip(found["ours"], found["theirs"], strict=True):
        torch.testing.assert_close(mine, reference, rtol=1e-5, atol=1e-5)


def test_a_frozen_layer_gets_no_gradient() -> None:
    frozen = layer().requires_grad_(False)
    states_TD = torch.randn(5, 24, requires_grad=True)
    frozen(states_TD, Targets(torch.arange(5))).sum().backward()
    assert states_TD.grad is not None
    assert frozen.weight.grad is None


@pytest.mark.parametrize("model_type", ["llama", "gemma2", "qwen2"])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_a_model_trains_on_the_loss_of_its_logits(
    model_type: str,
    smoothing: float,
    tiny: Callable[..., Any],
    pack: Callable[..., Any],
    rows: list[list[list[int]]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(head, "CHUNK_ELEMENTS", 3 * 97)
    model, batch = Diagnoser(tiny(model_type, "generate")), pack(rows)
    assert model.gives_losses
    train = Train(label_smoothing=smoothing)
    gradients = []
    for loss in (loss_sum(model(batch), batch, train), training_loss(model, batch, train)):
        model.zero_grad()
        loss.backward()
        gradients.append([loss.detach(), *(p.grad.clone() for p in model.parameters() if p.grad is not None)])
    for whole, chunked in zip(*gradients, strict=True):
        torch.testing.assert_close(chunked, whole, rtol=1e-5, atol=1e-5)


def test_no_logits_are_ever_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(head, "CHUNK_ELEMENTS", 4 * VOCABULARY)
    largest = 0
    own = F.linear

    def linear(states: Tensor, *rest: Any) -> Tensor:
        nonlocal largest
        largest = max(largest, len(states))
        return own(states, *rest)

    monkeypatch.setattr(F, "linear", linear)
    states_TD = torch.randn(50, 24, requires_grad=True)
    layer()(states_TD, Targets(torch.arange(50))).sum().backward()
    assert largest == 4


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_plan_knows_the_memory_of_one_chunk_and_the_gradient(
    dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(head, "CHUNK_ELEMENTS", 64 * 2048)
    size = dtype.itemsize
    for tokens in (64, 512):
        with torch.device("meta"):
            module = LossHead(32, 2048, bias=False, dtype=dtype)
            states_TD = torch.randn(tokens, 32, dtype=dtype, requires_grad=True)
            targets = Targets(torch.randint(2048, (tokens,)))
        known = [module.weight, states_TD, targets.ids_T]
        peak = trace(lambda m=module, s=states_TD, t=targets: m(s, t).sum(), known).peak
        shape = SimpleNamespace(vocabulary=2048, head_trainable=32 * 2048)
        setup = SimpleNamespace(bf16=dtype == torch.bfloat16, bytes=size)
        assert peak - states_TD.nbytes == pytest.approx(loss_buffer(tokens, shape, setup), rel=0.05)  # type: ignore[arg-type]
