"""The learning rate at each step."""

from __future__ import annotations

import pytest

from distmed.recipe import Optimizer
from distmed.train.schedule import lr_factor


def test_warm_up_rises_to_the_peak_and_cosine_falls_to_zero() -> None:
    optimizer = Optimizer(warmup=0.1, schedule="cosine")
    factors = [lr_factor(optimizer, step, 100) for step in range(1, 101)]
    assert factors[0] == pytest.approx(0.1) and factors[9] == pytest.approx(1.0)
    assert factors[54] == pytest.approx(0.5) and factors[99] == pytest.approx(0.0)
    assert factors[9:] == sorted(factors[9:], reverse=True)


def test_linear_falls_evenly_and_constant_stays() -> None:
    assert lr_factor(Optimizer(warmup=0, schedule="linear"), 25, 100) == pytest.approx(0.75)
    assert lr_factor(Optimizer(warmup=0, schedule="constant"), 99, 100) == 1.0


def test_warm_up_of_one_or_more_counts_steps() -> None:
    assert lr_factor(Optimizer(warmup=20, schedule="constant"), 5, 100) == pytest.approx(0.25)
