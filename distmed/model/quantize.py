"""A frozen base in 4 bits (NF4, double quantization: QLoRA, Dettmers et al. 2023, arXiv:2305.14314), through bitsandbytes.

Weights in safetensors flow in, a model flows out whose linear layers hold 4.13 bits a weight and give each product from a
weight that is unpacked for it and let go. What is packed follows from the stored weights alone, on any machine and in any
precision, so that a resume and an export can tell by a hash whether the base is the one that the run began with.
"""

from __future__ import annotations

import functools
import importlib.util
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from distmed.errors import UserError
from distmed.model.streaming import draw_values, renewed

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from distmed.model.streaming import Stored

# O: outputs, I: inputs of a layer. All is kept as bytes, which no cast to bf16 touches.
BLOCK, NESTED_BLOCK = 64, 256
CODES, SCALES, NESTED = ".codes", ".scales", ".nested"


class Packed(NamedTuple):
    """`codes`: two weights a byte; `scales`: one byte a block of 64; `nested`: float32 bytes, one a block of 256 scales
    and, last, the mean of all."""

    codes: Tensor
    scales: Tensor
    nested: Tensor


def check_installed() -> None:
    if importlib.util.find_spec("bitsandbytes") is None:
        raise UserError("model.quantize needs bitsandbytes, which is not installed", "pip install 'distmed[quant]'")


def pack(weight_OI: Tensor) -> Packed:
    """On the CPU whatever the device, in float32: another kernel might round otherwise."""
    from bitsandbytes import functional

    codes, state = functional.quantize_4bit(
        weight_OI.float().cpu(), blocksize=BLOCK, quant_type="nf4", compress_statistics=False
    )
    # In float64, so that the number of threads that sum changes nothing.
    mean = state.absmax.double().mean().float()
    scales, nested = functional.quantize_blockwise(state.absmax - mean, blocksize=NESTED_BLOCK)
    return Packed(codes.view(-1), scales, torch.cat([nested.absmax, mean[None]]).view(torch.uint8))


def unpack(packed: Packed, shape: tuple[int, int], dtype: torch.dtype) -> Tensor:
    """weight_OI in `dtype`, on the device of what is packed."""
    from bitsandbytes import functional

    nested = packed.nested.view(torch.float32)
    absmax = functional.dequantize_blockwise(
        packed.scales, absmax=nested[:-1], code=_scale_codes(packed.scales.device), blocksize=NESTED_BLOCK
    )
    state = functional.QuantState(
        absmax + nested[-1], shape=torch.Size(shape), dtype=dtype, blocksize=BLOCK, quant_type="nf4"
    )
    weight_OI: Tensor = functional.dequantize_4bit(packed.codes[:, None], state)
    return weight_OI


@functools.cache
def _scale_codes(device: torch.device) -> Tensor:
    from bitsandbytes import functional

    return functional.create_dynamic_map().to(device)


class NF4Linear(nn.Linear):
    """A frozen linear layer in 4 bits. bitsandbytes' own repacks its weights for a CPU at the first evaluation, and gives
    no gradients from then on."""

    def __init__(self, weight_OI: Tensor, bias: nn.Parameter | None) -> None:
        nn.Module.__init__(self)
        self.out_features, self.in_features = weight_OI.shape
        for name, part in pack(weight_OI)._asdict().items():
            self.register_parameter(name, nn.Parameter(part, requires_grad=False))
            # The meter counts the weights of the layer, not its bytes.
            self.get_parameter(name).stands_for = weight_OI.numel() if name == "codes" else 0  # type: ignore[attr-defined]
        self.bias = bias  # type: ignore[assignment]

    @property
    def packed(self) -> Packed:
        return Packed(*(self.get_parameter(name).data for name in Packed._fields))

    @property
    def weight(self) -> Tensor:  # type: ignore[override]
        """Unpacked anew at each call, in float32: for those who ask for its norm, as DoRA does."""
        return unpack(self.packed, (self.out_features, self.in_features), torch.float32)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = _Product.apply(x, self.packed, (self.out_features, self.in_features))
        return out if self.bias is None else out + self.bias.to(out.dtype)


class _Product(torch.autograd.Function):
    """x · weightᵀ, with the weight unpacked once for either pass."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, packed: Packed, shape: tuple[int, int]) -> Tensor:
        ctx.packed, ctx.shape = packed, shape
        return F.linear(x, unpack(packed, shape, x.dtype))

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        (gradient,) = gradients
        return gradient @ unpack(ctx.packed, ctx.shape, gradient.dtype), None, None


def fill_quantized(hf: PreTrainedModel, source: dict[str, Stored], dtype: torch.dtype) -> set[str]:
    """Give every parameter of `hf`, which has no data yet, its values, one tensor at a time: those of the backbone's linear
    layers in 4 bits, all others in `dtype`. The names of those made anew."""
    prefix = f"{hf.base_model_prefix}."
    linear = {
        path: module
        for path, module in hf.named_modules()
        if type(module) is nn.Linear and path.startswith(prefix) and f"{path}.weight" in source
    }
    packed = {id(module.weight) for module in linear.values()}
    fresh: set[str] = set()
    for module, found in renewed(hf, source, lambda p: None if id(p) in packed else torch.empty(p.shape, dtype=dtype)):
        draw_values(hf, module, [each for each in found if each.stored is None])
        for each in found:
            if each.stored is not None:
                each.stored.read_into(each.parameter.data.view(-1), 0)
        fresh |= {each.name for each in found if each.stored is None}
    for path, module in linear.items():
        whole = torch.empty(module.weight.shape, dtype=torch.float32)
        source[f"{path}.weight"].read_into(whole.view(-1), 0)
        hf.set_submodule(path, NF4Linear(whole, module._parameters["bias"]))
    return fresh
