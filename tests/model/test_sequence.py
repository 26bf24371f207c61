"""Two workers that share the tokens of a sequence compute what one computes alone; what cannot be shared is refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from distmed.errors import UserError
from distmed.recipe import Recipe
from distmed.recipe_file import check
from distmed.train.deepspeed_config import accumulation_steps
from tests.ranks import run_ranks
from tests.test_recipe import LEAST

Make = Callable[..., Any]
WORKER = Path(__file__).with_name("sequence_worker.py")
GENERATE = {
    **LEAST,
    "task": "generate",
    "train": {"global_batch": 4, "micro_batch": 2},
    "data": {"train": [{"source": "x"}]},
}


def start(recipes: list[Recipe], world_size: int, folder: Path) -> list[list[dict[str, Any]]]:
    """For each recipe what each worker saw."""
    (folder / "jobs.json").write_text(json.dumps([recipe.model_dump(mode="json") for recipe in recipes]))
    outs = [folder / f"{rank}.json" for rank in range(world_size)]
    run_ranks(WORKER, folder / "jobs.json", world_size, logs=folder, last=lambda rank: [str(outs[rank])])
    return [list(job) for job in zip(*(json.loads(out.read_text()) for out in outs), strict=True)]


def recipe(path: Path, stage: str, workers: int, n: int, *, attention: str = "sdpa", **changes: Any) -> Recipe:
    values: dict[str, Any] = {
        **GENERATE,
        "model": {"path": str(path), "attention": attention, **changes.pop("model", {})},
        "data": {"train": [{"source": "x"}], "seq_len": 13, "packing": attention != "sdpa"},
        "train": {"global_batch": 4, "micro_batch": 2, "precision": "fp32", **changes},
        "optimizer": {"lr": 1e-2, "warmup": 0, "schedule": "constant"},
        "deepspeed": stage,
        "cluster": {"num_workers": workers, "sequence_parallel": n},
    }
    return check(values)


@pytest.fixture(scope="module")
def cases(saved: Make) -> dict[str, Callable[[int, int], Recipe]]:
    """By name, a recipe for so many workers and so many that share."""
    llama, mistral = saved("llama"), saved("mistral")
    return {
        "zero3": lambda workers, n: recipe(llama, "zero3", workers, n),
        "recomputed": lambda workers, n: recipe(llama, "zero2", workers, n, activation_checkpointing=True),
        "lora": lambda workers, n: recipe(llama, "zero3", workers, n, model={"lora": {"rank": 2}}),
        "window": lambda workers, n: recipe(mistral, "zero2", workers, n),
        "packed": lambda workers, n: recipe(llama, "zero2", workers, n, attention="flash2"),
    }


Ran = dict[str, list[dict[str, Any]]]


@pytest.fixture(scope="module")
def alone(cases: Any, tmp_path_factory: pytest.TempPathFactory) -> Ran:
    ran = start([make(1, 1) for make in cases.values()], 1, tmp_path_factory.mktemp("alone"))
    return dict(zip(cases, ran, strict=True))


@pytest.fixture(scope="module")
def shared(cases: Any, tmp_path_factory: pytest.TempPathFactory) -> Ran:
    ran = start([make(2, 2) for make in cases.values()], 2, tmp_path_factory.mktemp("shared"))
    return dict(zip(cases, ran, strict=True))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["zero3", "recomputed", "lora", "window", "packed"])
def test_two_that_share_take_the_steps_of_one(name: str, alone: Ran, shared: Ran) -> None:
    (one,) = alone[name]
    assert len(set(one["losses"])) == 3
    for worker in shared[name]:
        assert worker["losses"] == pytest.approx(one["losses"], rel=1e-5)
        assert worker["grad_norms"] == pytest.approx(one["grad_norms"], rel=1e-4)
        # An evaluation runs whole sequences.
        assert worker["evaluated"] == pytest.approx(one["evaluated"], rel=1e-4)


def test_workers_that_share_count_once() -> None:
    made = check({**GENERATE, "data": {**GENERATE["data"], "packing": False}})  # type: ignore[dict-item]
    shared = made.model_copy(update={"cluster": made.cluster.model_copy(update={"sequence_parallel": 2})})
    assert accumulation_steps(made, 2) == 1
    assert accumulation_steps(shared, 2) == 2
    assert accumulation_steps(shared, 4) == 1


@pytest.mark.parametrize(
    ("changes", "message", "hint"),
    [
        ({"cluster": {"num_workers": 3, "sequence_parallel": 2}}, "does not divide cluster.num_workers=3", "=4"),
        ({"cluster": {"num_workers": 1, "sequence_parallel": 2}}, "does not divide cluster.num_workers=1", "=2"),
        ({"cluster": {"num_workers": [2, 4], "sequence_parallel": 2}}, "an elastic run might get", "to one number"),
        ({"cluster": {"num_workers": 2, "sequence_parallel": 2}}, "a mask of all tokens by all", "data.packing=false"),
        (
            {"cluster": {"num_workers": 2, "sequence_parallel": 2}, "task": "classify"},
            "task is classify",
            "cluster.sequence_parallel=1",
        ),
        (
            {
                "cluster": {"num_workers": 16, "sequence_parallel": 2},
                "data": {"train": [{"source": "x"}], "packing": False},
            },
            "share train.global_batch=4",
            "raise one or lower the other",
        ),
    ],
)
def test_what_cannot_be_shared_is_refused(changes: dict[str, Any], message: str, hint: str) -> None:
    with pytest.raises(UserError) as error:
        check({**GENERATE, **changes})
    assert message in error.value.message
    assert hint in error.value.hint or hint in error.value.message


def test_more_workers_than_sequences_may_share_them() -> None:
    check(
        {
            **GENERATE,
            "cluster": {"num_workers": 8, "sequence_parallel": 2},
            "data": {"train": [{"source": "x"}], "packing": False},
        }
    )
