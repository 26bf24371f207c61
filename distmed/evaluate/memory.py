"""Memory: what a device has no room for is scored in smaller batches, and what no batch makes fit is told.

A loaded model flows in whose forward passes ran out of memory; one that reads half as many tokens at once flows out.
"""

from __future__ import annotations

import socket
from dataclasses import replace
from typing import TYPE_CHECKING

from distmed.errors import UserError

if TYPE_CHECKING:
    from distmed.evaluate.loading import Loaded

LEAST_TOKENS = 256
"""Of one forward pass: where a batch is down to one case, less of a budget changes nothing."""


def halved(model: Loaded, told: str) -> Loaded:
    """The model with half its tokens a pass; `told` is the first line of what the device said.

    Raises UserError where that is as good as one case at a time.
    """
    import torch

    budget = model.token_budget // 2
    if budget < LEAST_TOKENS:
        raise UserError(
            f"out of memory on {socket.gethostname()}, one case at a time: {told}",
            f"free the GPU or take a larger one; distmed evaluate also takes data.seq_len (now {model.recipe.data.seq_len}), "
            "and reads less of each case",
        )
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    return replace(model, token_budget=budget)


def too_large(told: str) -> UserError:
    """Of a model that does not even fit without a case."""
    return UserError(
        f"out of memory on {socket.gethostname()} while the model was loaded: {told}",
        "free the GPU, take a larger one, or a smaller model: distmed export … --dtype bf16 halves one in float32",
    )
