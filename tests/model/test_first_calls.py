"""The first call of each function of the math library is made by one thread: two at once may get a kernel of low accuracy.

The race itself shows once in some thousand processes, so what is tested is the order of the calls.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from distmed.model.first_calls import FUNCTIONS
from distmed.model.load import load_model


class FirstSizes(TorchDispatchMode):
    """How many numbers each function got when it was first called, by its name and its type."""

    def __init__(self) -> None:
        super().__init__()
        self.sizes: dict[tuple[str, torch.dtype], int] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.overloadpacket.__name__
        if name.rstrip("_") in FUNCTIONS and args[0].device.type == "cpu":
            self.sizes.setdefault((name, args[0].dtype), args[0].numel())
        return func(*args, **kwargs or {})


def test_a_model_that_is_loaded_finds_each_function_called_once_on_one_number(
    saved: Callable[..., Path], recipe: Callable[..., Any]
) -> None:
    folder = saved("llama", "classify")
    with FirstSizes() as first, torch.no_grad():
        model = load_model(recipe(folder), folder, ["A", "B"], ["a", "b"], {}, torch.device("cpu"))
        model.hf.get_decoder()(torch.zeros((2, 300), dtype=torch.long))
    for dtype in (torch.float32, torch.float64):
        assert {name for name, of in first.sizes if of == dtype} >= set(FUNCTIONS)
    assert {key: size for key, size in first.sizes.items() if size != 1} == {}
