"""What no section of a recipe can check alone, since it is about two of them.

A recipe whose sections are each in order flows in; nothing flows out but a ValueError, "what is wrong; how to mend it".
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from distmed.recipe import Recipe


def check_across_sections(recipe: Recipe) -> None:
    for change in recipe.changes:
        for key, value in change.set.items():
            section, _, name = key.partition(".")
            of_section = getattr(recipe, section)
            type(of_section).model_validate({**of_section.model_dump(), name: value})
    if recipe.model.quantize is not None and recipe.model.lora is None:
        raise ValueError("model.quantize: weights in 4 bits cannot be trained themselves; add model.lora")
    if recipe.model.quantize is not None and recipe.model.init == "random":
        raise ValueError(
            "model.quantize freezes the weights, and model.init=random gives it none that were trained; "
            "set model.init=pretrained"
        )
    _check_sequence_parallel(recipe)
    if recipe.cluster.most // recipe.cluster.sequence_parallel > recipe.train.global_batch:
        raise ValueError(
            f"cluster.num_workers: {recipe.cluster.most} workers share train.global_batch="
            f"{recipe.train.global_batch} sequences, so some would have none; raise one or lower the other"
        )
    unweighted = [source.source for source in recipe.data.train if source.weight is None]
    if unweighted and len(unweighted) < len(recipe.data.train):
        raise ValueError(f"data.train: {unweighted[0]} has no weight, others have; give every source a weight, or none")


def _check_sequence_parallel(recipe: Recipe) -> None:
    n, workers = recipe.cluster.sequence_parallel, recipe.cluster.num_workers
    if n == 1:
        return
    if isinstance(workers, tuple):
        raise ValueError(
            f"cluster.sequence_parallel={n}: an elastic run might get a number of workers that it does not divide; "
            "set cluster.num_workers to one number"
        )
    if workers % n:
        raise ValueError(
            f"cluster.sequence_parallel={n} does not divide cluster.num_workers={workers}; "
            f"set cluster.num_workers={-(-workers // n) * n}"
        )
    if recipe.task != "generate":
        raise ValueError(
            f"cluster.sequence_parallel={n} shares the tokens of texts that are generated, and task is classify; "
            "set cluster.sequence_parallel=1"
        )
    if recipe.data.packing and recipe.model.attention == "sdpa":
        raise ValueError(
            f"cluster.sequence_parallel={n}: sdpa would need a mask of all tokens by all tokens for packed cases; "
            "set data.packing=false, or model.attention=flash2, flash3 or flex"
        )
