"""The math library's choice of a kernel for each function, made while one thread calls it.

oneMKL 2024.2, which the CPU builds of torch 2.13 hold, looks for the kernel of `cos`, `exp`, … at a function's first call.
Where two threads of an operation make that call at once, one of them may compute its share with a kernel of low accuracy
(1.5e-4 off for `cos`), that once, and nothing tells (github.com/pytorch/pytorch/issues/188792). In a first step that is
another loss; in an evaluation, another probability.
"""

from __future__ import annotations

import torch

# Those that torch may give to the library (aten/src/ATen/cpu/vml.h).
FUNCTIONS = (
    *("acos", "asin", "atan", "cos", "cosh", "erf", "erfc", "erfinv", "exp", "exp2", "expm1", "lgamma"),
    *("log", "log10", "log1p", "log2", "rsqrt", "sin", "sinh", "sqrt", "tan", "tanh"),
)


def settle_kernels() -> None:
    """Before the first computation of a process: each function once, on one number, so that one thread alone calls it."""
    for dtype in (torch.float32, torch.float64):
        number = torch.full((1,), 0.5, dtype=dtype, device="cpu")
        for function in FUNCTIONS:
            getattr(torch, function)(number)
