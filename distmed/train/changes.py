"""Settings that change in the middle of a run: the schedule that population-based training found, replayed.

A recipe with `changes` and a step flow in; the recipe as it stands at that step flows out, and reaches the optimizer.
"""

from __future__ import annotations

from typing import Any

from distmed.recipe import Recipe


def recipe_at(recipe: Recipe, step: int) -> Recipe:
    """What holds for optimizer step `step`, which counts from 1: a change after step N holds from step N + 1 on."""
    for change in sorted(recipe.changes, key=lambda change: change.step):
        if change.step < step:
            for key, value in change.set.items():
                section, _, name = key.partition(".")
                changed = getattr(recipe, section).model_copy(update={name: value})
                recipe = recipe.model_copy(update={section: changed})
    return recipe


def set_optimizer(groups: list[dict[str, Any]], recipe: Recipe) -> None:
    """Peak learning rate and weight decay of every parameter group, as model/groups.py gave them at the start."""
    optimizer = recipe.optimizer
    for group in groups:
        head = group["name"].startswith("head") and optimizer.head_lr is not None
        group["peak_lr"] = optimizer.head_lr if head else optimizer.lr
        group["weight_decay"] = 0.0 if group["name"].endswith("no_decay") else optimizer.weight_decay
