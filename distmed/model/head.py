"""The output layer over a vocabulary, with a loss that never holds the logits of all tokens at once.

Token states and targets flow in, one loss a target flows out. Logits are made a chunk of tokens at a time, and made again in
the backward pass (as in Cut Cross-Entropy, arXiv:2411.09009, and Liger, arXiv:2410.10989), so memory is that of one chunk.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

# T: target tokens, S: those of a chunk, D: hidden size, V: vocabulary.
CHUNK_ELEMENTS = 1 << 26


class Targets(NamedTuple):
    """What the output layer is asked for instead of logits. `cap`: logits are cap · tanh(logits / cap), as in Gemma 2."""

    ids_T: Tensor
    label_smoothing: float = 0.0
    cap: float | None = None


def chunk_length(vocabulary: int) -> int:
    """Tokens whose logits are held at once: 256 MiB of them in float32."""
    return max(CHUNK_ELEMENTS // vocabulary, 1)


class LossHead(nn.Linear):
    """A linear layer that can give the loss of each target itself.

    The loss is computed in the layer's own forward pass, which runs once whatever the number of chunks: under ZeRO-3 the
    hooks around it gather the weight, and every worker must gather equally often.
    """

    def forward(self, states_TD: Tensor, targets: Targets | None = None) -> Tensor:
        """Logits [T, V] in the dtype of the weight or, of `targets`, losses [T] in float32."""
        if targets is None:
            return F.linear(states_TD, self.weight, self.bias)
        losses_T: Tensor = _ChunkedLoss.apply(states_TD, self.weight, self.bias, targets)
        return losses_T


def with_loss(network: nn.Module) -> bool:
    """Let the output layer of `network` give losses; False if it is no plain linear layer, whose logits are then whole."""
    output = network.get_output_embeddings()  # type: ignore[operator]
    if type(output) is nn.Linear:
        # Its parameters stay where they are and keep their names; under ZeRO-3 they are partitioned already.
        output.__class__ = LossHead
    return isinstance(output, LossHead)


class _ChunkedLoss(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, states_TD: Tensor, weight_VD: Tensor, bias_V: Tensor | None, targets: Targets) -> Tensor:
        losses_T = states_TD.new_empty(len(states_TD), dtype=torch.float32)
        log_sum_T = torch.empty_like(losses_T)
        smoothing = targets.label_smoothing
        for chunk in _chunks(len(states_TD), weight_VD.shape[0]):
            logits_SV = _logits(states_TD[chunk], weight_VD, bias_V, targets.cap)
            of_target_S = logits_SV.gather(1, targets.ids_T[chunk, None])[:, 0]
            mean_S = logits_SV.mean(dim=1) if smoothing else of_target_S
            largest_S = logits_SV.amax(dim=1)
            sum_S = logits_SV.sub_(largest_S[:, None]).exp_().sum(dim=1)
            log_sum_T[chunk] = largest_S + sum_S.log()
            losses_T[chunk] = log_sum_T[chunk] - (1 - smoothing) * of_target_S - smoothing * mean_S
            # Else the next chunk's are made beside these.
            del logits_SV
        ctx.save_for_backward(states_TD, weight_VD, bias_V, targets.ids_T, log_sum_T)
        ctx.smoothing, ctx.cap = smoothing, targets.cap
        return losses_T

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        (gradient_T,) = gradients
        states_TD, weight_VD, bias_V, ids_T, log_sum_T = ctx.saved_tensors
        wants_states, wants_weight, wants_bias = ctx.needs_input_grad[:3]
        states_gradient_TD = torch.empty_like(states_TD) if wants_states else None
        chunks = _chunks(len(states_TD), weight_VD.shape[0])
        # Summed in float32 where there are several chunks: bf16 would lose the small ones.
        kind = torch.float32 if len(chunks) > 1 else weight_VD.dtype
        weight_gradient_VD = torch.zeros_like(weight_VD, dtype=kind) if wants_weight else None
        bias_gradient_V = torch.zeros_like(bias_V, dtype=torch.float32) if wants_bias and bias_V is not None else None
        for chunk in chunks:
            logits_SV = _logits(states_TD[chunk], weight_VD, bias_V, ctx.cap)
            slope_SV = 1 - (logits_SV / ctx.cap).square() if ctx.cap is not None else None
            step_SV = logits_SV.sub_(log_sum_T[chunk, None]).exp_()
            if ctx.smoothing:
                step_SV -= ctx.smoothing / weight_VD.shape[0]
            step_SV.scatter_add_(1, ids_T[chunk, None], torch.full_like(step_SV[:, :1], ctx.smoothing - 1))
            step_SV *= gradient_T[chunk, None]
            if slope_SV is not None:
                step_SV *= slope_SV
            if bias_gradient_V is not None:
                bias_gradient_V += step_SV.sum(dim=0)
            step_SV = step_SV.to(weight_VD.dtype)
            if states_gradient_TD is not None:
                torch.mm(step_SV, weight_VD, out=states_gradient_TD[chunk])
            if weight_gradient_VD is not None and weight_gradient_VD.dtype == step_SV.dtype:
                weight_gradient_VD.addmm_(step_SV.t(), states_TD[chunk])
            elif weight_gradient_VD is not None:
                weight_gradient_VD += step_SV.t() @ states_TD[chunk]
            del logits_SV, slope_SV, step_SV
        return (
            states_gradient_TD,
            None if weight_gradient_VD is None else weight_gradient_VD.to(weight_VD.dtype),
            None if bias_gradient_V is None or bias_V is None else bias_gradient_V.to(bias_V.dtype),
            None,
        )


def _chunks(tokens: int, vocabulary: int) -> list[slice]:
    length = chunk_length(vocabulary)
    return [slice(start, start + length) for start in range(0, tokens, length)]


def _logits(states_SD: Tensor, weight_VD: Tensor, bias_V: Tensor | None, cap: float | None) -> Tensor:
    """In float32, in memory of its own."""
    logits_SV = F.linear(states_SD, weight_VD, bias_V).float()
    return logits_SV if cap is None else logits_SV.div_(cap).tanh_().mul_(cap)
