"""Weights and priors of the classes, against their formulas and against what the stream draws."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from distmed.model.loss import loss_sum
from distmed.prepare.shards import write_shards
from distmed.recipe import Recipe, Train
from distmed.stream.batch import Item, collate
from distmed.stream.report import notes
from distmed.stream.sequences import Sequences
from distmed.stream.stream import StreamPlan
from distmed.stream.weights import class_weights, log_shares
from tests.stream.conftest import patients

PlanMaker = Callable[..., StreamPlan]
RecipeMaker = Callable[..., Recipe]
KINDS = ["none", "balanced", "effective"]
ADJUSTS_NOTHING = "every label has the same share already, so train.loss=logit_adjusted adjusts nothing"


@pytest.mark.parametrize("kind", KINDS)
def test_class_weights_are_one_on_average_over_the_cases(kind: str) -> None:
    counts_K = np.array([900, 90, 9, 1])
    weight_K = class_weights(counts_K, kind)  # type: ignore[arg-type]
    assert (weight_K * counts_K).sum() / 1000 == pytest.approx(1, rel=1e-6)
    assert kind == "none" or (np.diff(weight_K) > 0).all()


def test_balanced_and_effective_weights_follow_their_formulas() -> None:
    counts_K = np.array([900, 90, 10])
    assert class_weights(counts_K, "balanced") == pytest.approx(1000 / (3 * counts_K), rel=1e-6)
    effective = (1 - 0.999**counts_K) / (1 - 0.999)
    assert class_weights(counts_K, "effective") * effective == pytest.approx(
        np.full(3, 1000 / (counts_K / effective).sum()), rel=1e-6
    )


@pytest.mark.parametrize("kind", KINDS)
def test_a_class_without_cases_gives_no_infinity(kind: str) -> None:
    counts_K = np.array([3, 0, 1])
    weight_K = class_weights(counts_K, kind)  # type: ignore[arg-type]
    assert np.isfinite(weight_K).all() and np.isfinite(log_shares(counts_K, weight_K)).all()


def test_log_shares_are_logarithms_of_shares() -> None:
    assert np.exp(log_shares(np.array([6, 3, 1]), np.ones(3, dtype=np.float32))) == pytest.approx([0.6, 0.3, 0.1])


@pytest.mark.parametrize("kind", KINDS)
def test_rarity_is_adjusted_for_once_whatever_the_weights(kind: str) -> None:
    """A case that tells nothing: all diagnoses are alike to a model that is as if they were equally frequent."""
    counts_K = np.array([900, 90, 10])
    weight_K = class_weights(counts_K, kind)  # type: ignore[arg-type]
    tokens = np.array([1, 2], dtype=np.int32)
    labels = np.repeat(np.arange(3), counts_K).tolist()
    items = [[Item(tokens, 1, label, float(weight_K[label]), "x", n)] for n, label in enumerate(labels)]
    batch = collate(items, seq_len=8, pad_id=0, targets=False)
    logits_K = torch.zeros(3, requires_grad=True)
    log_prior_K = torch.from_numpy(log_shares(counts_K, weight_K))
    loss_sum(logits_K.expand(1000, 3), batch, Train(loss="logit_adjusted"), log_prior_K).backward()
    assert logits_K.grad is not None
    # In means over the cases; a prior of the counts alone leaves 0.3 with balanced weights.
    assert logits_K.grad.abs().max() / 1000 < 1e-6


def test_the_prior_of_balanced_draws_is_what_each_source_draws(
    recipe: RecipeMaker, plan_of: PlanMaker, tmp_path: Path
) -> None:
    """One source has five labels, the other two of them, and it gives half of the sequences."""
    sources = [
        write_shards(
            patients(150, seed=classes, classes=classes, prefix=f"of{classes}"),
            tmp_path / str(classes),
            format="columns",
        )
        for classes in (5, 2)
    ]
    halves = {"train": [{"source": "a", "weight": 1}, {"source": "b", "weight": 1}]}
    plan = plan_of(
        recipe(data={**halves, "sampling": "balanced"}, train={"max_steps": 40, "loss": "logit_adjusted"}),
        manifests=sources,
    )
    sequences = Sequences(plan, plan.table())
    drawn = np.concatenate([sequences.at(k).cases_N for k in range(plan.total_sequences)])
    drawn_K = np.bincount(plan.table().labels(drawn), minlength=5)
    share_K = np.exp(log_shares(plan.class_counts_K, plan.class_weights_K))
    assert share_K == pytest.approx(drawn_K / drawn_K.sum(), abs=0.02)
    assert ADJUSTS_NOTHING not in "; ".join(notes(plan))


@pytest.mark.parametrize(
    ("data", "nothing"),
    [
        ({}, False),
        ({"class_weights": "effective"}, False),
        ({"class_weights": "balanced"}, True),
        ({"sampling": "balanced"}, True),
    ],
)
def test_a_run_says_that_nothing_is_left_to_adjust(
    recipe: RecipeMaker, plan_of: PlanMaker, data: dict[str, str], nothing: bool
) -> None:
    plan = plan_of(recipe(data=data, train={"loss": "logit_adjusted"}))
    assert (ADJUSTS_NOTHING in "; ".join(notes(plan))) == nothing
    assert ADJUSTS_NOTHING not in "; ".join(notes(plan_of(recipe(data=data))))
