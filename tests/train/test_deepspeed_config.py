"""The DeepSpeed file and the recipe: what one leaves open the other decides, and no contradiction passes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from distmed import shipped
from distmed.errors import UserError
from distmed.recipe import Recipe
from distmed.recipe_file import check
from distmed.train.deepspeed_config import resolve_config, wants_bf16

NAMES = ["zero1", "zero2", "zero3", "zero3_offload", "zero3_nvme", "zero3_hpz"]


def recipe(**changes: Any) -> Recipe:
    values = {
        "name": "a",
        "task": "classify",
        "model": {"path": "m"},
        "data": {"train": [{"source": "x"}]},
        "train": {"global_batch": 32, "micro_batch": 4},
        "optimizer": {"lr": 1e-4, "max_grad_norm": 0.5},
    }
    return check({**values, **changes})


def resolve(of: Recipe, world_size: int = 2) -> dict[str, Any]:
    return resolve_config(of, world_size=world_size, bf16=True, hidden_size=64, nvme_path=Path("/scratch/nvme"))


def own_file(tmp_path: Path, content: object) -> Recipe:
    path = tmp_path / "mine.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return recipe(deepspeed=str(path))


def test_the_shipped_files_are_those_that_are_promised() -> None:
    assert sorted(path.stem for path in shipped.folder("ds_configs").glob("*.json")) == sorted(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_every_shipped_file_is_decided_by_the_recipe(name: str) -> None:
    config = resolve(recipe(deepspeed=name))
    assert "auto" not in json.dumps(config)
    assert config["train_micro_batch_size_per_gpu"] == 4
    assert config["gradient_accumulation_steps"] == 4
    assert config["gradient_clipping"] == 0.5
    assert config["bf16"]["enabled"] is True
    assert "train_batch_size" not in config


@pytest.mark.parametrize(("world_size", "steps"), [(1, 8), (2, 4), (3, 3), (5, 2), (32, 1)])
def test_accumulation_covers_the_batch_at_any_world_size(world_size: int, steps: int) -> None:
    assert resolve(recipe(), world_size)["gradient_accumulation_steps"] == steps


def test_a_file_in_the_hugging_face_manner_works_unchanged(tmp_path: Path) -> None:
    theirs = {
        "bf16": {"enabled": "auto"},
        "fp16": {"enabled": False},
        "optimizer": {
            "type": "AdamW",
            "params": {"lr": "auto", "betas": "auto", "eps": "auto", "weight_decay": "auto"},
        },
        "scheduler": {"type": "WarmupLR", "params": {"warmup_min_lr": "auto", "warmup_max_lr": "auto"}},
        "zero_optimization": {"stage": 3, "reduce_bucket_size": "auto", "stage3_prefetch_bucket_size": "auto"},
        "gradient_accumulation_steps": "auto",
        "gradient_clipping": "auto",
        "train_batch_size": "auto",
        "train_micro_batch_size_per_gpu": "auto",
    }
    config = resolve(own_file(tmp_path, theirs))
    assert config["zero_optimization"]["reduce_bucket_size"] == 64 * 64
    assert not {"optimizer", "scheduler", "fp16"} & set(config)


@pytest.mark.parametrize(
    ("theirs", "words"),
    [
        ({"train_micro_batch_size_per_gpu": 16}, ("16", "train.micro_batch=4")),
        ({"train_batch_size": 64}, ("64", "train.global_batch=32")),
        ({"gradient_clipping": 1.0}, ("1.0", "optimizer.max_grad_norm=0.5")),
        ({"optimizer": {"type": "AdamW", "params": {"lr": 1e-3}}}, ("0.001", "optimizer.lr=0.0001")),
        ({"optimizer": {"type": "OneBitAdam"}}, ("OneBitAdam", "optimizer.name")),
        ({"scheduler": {"params": {"warmup_num_steps": 10}}}, ("10", "optimizer.schedule")),
        ({"bf16": {"enabled": False}}, ("False", "train.precision")),
        ({"fp16": {"enabled": True}}, ("fp16",)),
        ({"zero_optimization": {"stage": 3, "sub_group_size": "auto"}}, ("zero_optimization.sub_group_size",)),
    ],
)
def test_a_contradiction_names_both_sides(tmp_path: Path, theirs: dict[str, Any], words: tuple[str, ...]) -> None:
    with pytest.raises(UserError) as error:
        resolve(own_file(tmp_path, theirs))
    assert all(word in error.value.message for word in words)


def test_a_file_that_is_missing_or_broken_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="zero7") as error:
        resolve(recipe(deepspeed="zero7"))
    assert "zero3_offload" in error.value.hint
    with pytest.raises(UserError, match="no JSON"):
        resolve(own_file(tmp_path, "{"))
    with pytest.raises(UserError, match="no DeepSpeed configuration"):
        resolve(own_file(tmp_path, []))


@pytest.mark.parametrize(
    ("precision", "said", "wanted"),
    [
        ("auto", "auto", None),
        ("auto", True, True),
        ("auto", False, False),
        ("bf16", "auto", True),
        ("fp32", "auto", False),
    ],
)
def test_what_the_recipe_leaves_open_the_file_says_and_then_the_hardware(
    tmp_path: Path, precision: str, said: object, wanted: bool | None
) -> None:
    mine = own_file(tmp_path, {"bf16": {"enabled": said}})
    train = mine.train.model_copy(update={"precision": precision})
    assert wants_bf16(mine.model_copy(update={"train": train})) is wanted
