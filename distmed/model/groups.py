"""Parameter groups of the optimizer: what decays and what does not, and the learning rate of a fresh head.

A Diagnoser and the recipe's optimizer section flow in, the list that torch optimizers take flows out.
"""

from __future__ import annotations

from typing import Any

from torch import nn

from distmed.model.diagnoser import Diagnoser
from distmed.recipe import Optimizer


def parameter_groups(model: Diagnoser, optimizer: Optimizer) -> list[dict[str, Any]]:
    """Groups with `params`, `lr`, `weight_decay` and `name`; norms and biases (one-dimensional) do not decay.

    Frozen parameters are left out, and so are empty groups. Without `head_lr` a fresh head belongs to the others.
    """
    groups: dict[str, dict[str, Any]] = {}
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        head = optimizer.head_lr is not None and name in model.fresh
        decays = _dimensions(parameter) > 1
        key = ("head" if head else "body") + ("" if decays else "_no_decay")
        group = groups.setdefault(
            key,
            {
                "params": [],
                "lr": optimizer.head_lr if head else optimizer.lr,
                "weight_decay": optimizer.weight_decay if decays else 0.0,
                "name": key,
            },
        )
        group["params"].append(parameter)
    return list(groups.values())


def _dimensions(parameter: nn.Parameter) -> int:
    """Under ZeRO-3 a parameter is an empty vector, and `ds_shape` tells what it stands for."""
    return len(getattr(parameter, "ds_shape", parameter.shape))
