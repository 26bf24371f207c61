"""The random states of a rank: python, numpy, torch and its accelerator.

At the world size they were saved at, each rank gets its own back. At another there is no such rank: each new rank is
seeded from the first rank's saved states together with its own rank and the new world size, so a resume can be
repeated.
"""

from __future__ import annotations

import base64
import json
import random
from typing import Any

import numpy as np
import torch
import xxhash
from torch import Tensor


def capture() -> dict[str, Any]:
    """JSON-able."""
    version, words, gauss = random.getstate()
    kind, key, position, has_gauss, cached = np.random.get_state(legacy=True)
    saved: dict[str, Any] = {
        "python": [version, list(words), gauss],
        "numpy": [kind, [int(word) for word in key], position, has_gauss, cached],
        "torch": _encode(torch.get_rng_state()),
    }
    if torch.cuda.is_available():
        saved["cuda"] = _encode(torch.cuda.get_rng_state())
    return saved


def restore(saved: dict[str, Any]) -> None:
    """What `capture` gave, on the rank it was taken from."""
    version, words, gauss = saved["python"]
    random.setstate((version, tuple(words), gauss))
    kind, key, position, has_gauss, cached = saved["numpy"]
    np.random.set_state((kind, np.array(key, dtype=np.uint32), position, has_gauss, cached))
    torch.set_rng_state(_decode(saved["torch"]))
    if "cuda" in saved and torch.cuda.is_available():
        torch.cuda.set_rng_state(_decode(saved["cuda"]))


def derive(saved_of_first_rank: dict[str, Any], rank: int, world_size: int) -> None:
    """Seed a rank of another world size: xxh3_64 of the first rank's saved states, its own rank and the new world
    size."""
    seed = xxhash.xxh3_64_intdigest(json.dumps([saved_of_first_rank, rank, world_size]).encode())
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed % 2**63)


def _encode(state: Tensor) -> str:
    return base64.b64encode(state.numpy().tobytes()).decode()


def _decode(text: str) -> Tensor:
    return torch.frombuffer(bytearray(base64.b64decode(text)), dtype=torch.uint8)
