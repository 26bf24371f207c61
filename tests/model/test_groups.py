"""Who decays, and who learns at which rate."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from distmed.model.groups import parameter_groups
from distmed.model.load import load_model
from distmed.recipe import Optimizer

Make = Callable[..., Any]


def grouped(folder: Path, recipe: Make, **optimizer: Any) -> tuple[dict[str, set[str]], dict[str, dict[str, Any]]]:
    model = load_model(recipe(folder), folder, ["a", "b"], ["A", "B"], {}, torch.device("cpu"))
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    groups = parameter_groups(model, Optimizer(lr=1e-4, weight_decay=0.1, **optimizer))
    members = {group["name"]: {names[id(p)] for p in group["params"]} for group in groups}
    assert sum(map(len, members.values())) == len(names)
    return members, {group["name"]: group for group in groups}


def test_norms_and_biases_do_not_decay(saved: Make, recipe: Make) -> None:
    members, groups = grouped(saved("roberta", "classify"), recipe)
    assert set(members) == {"body", "body_no_decay"}
    assert groups["body"]["weight_decay"] == 0.1
    assert groups["body_no_decay"]["weight_decay"] == 0.0
    assert all("LayerNorm" in name or name.endswith("bias") for name in members["body_no_decay"])
    assert not any("LayerNorm" in name or name.endswith("bias") for name in members["body"])


def test_a_fresh_head_has_its_own_learning_rate(saved: Make, recipe: Make) -> None:
    members, groups = grouped(saved("bert", "classify"), recipe, head_lr=1e-2)
    assert members["head"] == {"hf.classifier.weight"}
    assert members["head_no_decay"] == {"hf.classifier.bias"}
    assert {name: group["lr"] for name, group in groups.items()} == {
        "body": 1e-4,
        "body_no_decay": 1e-4,
        "head": 1e-2,
        "head_no_decay": 1e-2,
    }


def test_frozen_parameters_are_left_out(saved: Make, recipe: Make) -> None:
    folder = saved("llama")
    model = load_model(recipe(folder, lora={"rank": 2}), folder, ["a"], ["A"], {}, torch.device("cpu"))
    trained = {id(p) for group in parameter_groups(model, Optimizer()) for p in group["params"]}
    names = [name for name, parameter in model.named_parameters() if id(parameter) in trained]
    assert names
    assert all("lora_" in name or name in model.fresh for name in names)
