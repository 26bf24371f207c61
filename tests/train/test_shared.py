"""Sequences whose tokens two workers share, through the worker loop: the curve of one worker, and refusals before it starts."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.train.conftest import Run
from tests.train.door import SMALL, Door

GENERATE = [
    *SMALL,
    "task=generate",
    "data.packing=false",
    "data.seq_len=512",
    "data.eval.0.limit=8",
    "train.global_batch=2",
    "train.micro_batch=2",
    "train.max_steps=4",
    "train.eval_every=4",
    "train.precision=fp32",
    "optimizer.warmup=0",
]


@pytest.mark.slow
def test_two_workers_that_share_have_the_curve_of_one(train: Callable[..., Run]) -> None:
    quiet = {"WANDB_MODE": "disabled"}
    one = train("one", *GENERATE, "--num-workers", "1", env=quiet)
    two = train("two", *GENERATE, "cluster.sequence_parallel=2", "--num-workers", "2", env=quiet)
    assert list(two.losses) == [1, 2, 3, 4]
    for step, loss in two.losses.items():
        assert loss == pytest.approx(one.losses[step], rel=1e-4), step
    assert two.summary["eval"]["eval/loss"] == pytest.approx(one.summary["eval"]["eval/loss"], rel=1e-4)
    assert two.checkpoints == ["step-00000004-world-2-attempt-0"]


def test_workers_that_cannot_share_are_refused(early: Door) -> None:
    share = "cluster.sequence_parallel=2"
    refusal = early.refuse("task=generate", "data.packing=false", share, "--num-workers", "3")
    assert "does not divide cluster.num_workers=3" in refusal.message and "=4" in refusal.hint
    refusal = early.refuse("task=generate", share, "--num-workers", "2")
    assert "sdpa would need a mask" in refusal.message and "data.packing=false" in refusal.hint
