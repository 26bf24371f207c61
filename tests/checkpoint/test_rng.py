from __future__ import annotations

import json
import random

import numpy as np
import torch

from distmed.checkpoint import rng


def _draws() -> list[float]:
    return [
        random.random(),
        random.gauss(0, 1),
        float(np.random.rand()),
        float(np.random.randn()),
        float(torch.rand(())),
    ]


def test_restored_states_draw_what_would_have_come() -> None:
    _draws()
    saved = json.loads(json.dumps(rng.capture()))
    expected = _draws()
    _draws()
    rng.restore(saved)
    assert _draws() == expected


def test_derived_states_differ_by_rank_and_world_size_and_can_be_repeated() -> None:
    saved = rng.capture()
    drawn = {}
    for rank, world_size in ((0, 3), (1, 3), (2, 3), (0, 1)):
        rng.derive(saved, rank, world_size)
        drawn[rank, world_size] = _draws()
    assert len({tuple(draws) for draws in drawn.values()}) == len(drawn)
    rng.derive(saved, 1, 3)
    assert _draws() == drawn[1, 3]
