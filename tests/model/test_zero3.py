"""Real worker processes: nobody holds the whole model, and the world size changes nothing."""

from __future__ import annotations

import json
import statistics
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from distmed.model.streaming import stored_tensors
from distmed.recipe import Recipe
from tests.ranks import run_ranks

pytestmark = pytest.mark.slow
Make = Callable[..., Any]
Seen = dict[str, Any]
WORKER = Path(__file__).with_name("zero_worker.py")


def start(jobs: list[tuple[Recipe, int]], world_size: int, folder: Path) -> list[list[Seen]]:
    """For each job (a recipe and a ZeRO stage) what each worker saw."""
    (folder / "jobs.json").write_text(json.dumps([(recipe.model_dump(mode="json"), stage) for recipe, stage in jobs]))
    outs = [folder / f"{rank}.json" for rank in range(world_size)]
    run_ranks(WORKER, folder / "jobs.json", world_size, logs=folder, last=lambda rank: [str(outs[rank])])
    return [list(job) for job in zip(*(json.loads(out.read_text()) for out in outs), strict=True)]


@pytest.fixture(scope="module")
def recipes(tiny_llama: Path, saved: Make, recipe: Make) -> dict[str, Recipe]:
    tied = saved("llama", tie_word_embeddings=True)
    return {
        "random": recipe(tiny_llama, init="random"),
        "roberta": recipe(saved("roberta", "classify"), dropout=0.0),
        "bert": recipe(saved("bert", "classify"), dropout=0.0),
        "llama": recipe(tied),
        "tied": recipe(tied, "generate"),
        "recomputed": recipe(tied, "generate", train={"activation_checkpointing": True}),
        "tiled": recipe(tied, "generate", train={"activation_checkpointing": "offload", "mlp_tiles": 3}),
        "lora": recipe(tied, lora={"rank": 2}),
        "dora": recipe(tied, lora={"rank": 2, "dora": True}),
    }


@pytest.fixture(scope="module")
def plain(recipes: dict[str, Recipe], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Seen]:
    """One worker, nothing partitioned."""
    ran = start([(recipe, 0) for recipe in recipes.values()], 1, tmp_path_factory.mktemp("plain"))
    return {name: workers[0] for name, workers in zip(recipes, ran, strict=True)}


@pytest.fixture(scope="module")
def partitioned(recipes: dict[str, Recipe], tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[Seen]]:
    """Two workers under ZeRO-3."""
    ran = start([(recipe, 3) for recipe in recipes.values()], 2, tmp_path_factory.mktemp("partitioned"))
    return dict(zip(recipes, ran, strict=True))


@pytest.mark.parametrize("name", ["lora", "dora"])
def test_with_adapters_what_a_worker_holds_falls_from_one_worker_to_two(
    name: str, plain: dict[str, Seen], partitioned: dict[str, list[Seen]]
) -> None:
    alone = plain[name]
    assert alone["held_in_training"] == alone["elements"]
    for seen in partitioned[name]:
        assert seen["elements"] == alone["elements"]
        assert seen["held_in_training"] == pytest.approx(alone["elements"] / 2, rel=0.01)
        # Two moments of what is trained, and nothing of the frozen base.
        assert seen["stepped"] == pytest.approx(alone["stepped"] / 2, rel=0.02)
        assert alone["stepped"] == pytest.approx(2 * alone["trained"], rel=0.01)
        assert alone["trained"] < 0.2 * alone["elements"]


@pytest.mark.parametrize("name", ["random", "llama", "bert"])
def test_two_workers_hold_half_of_the_model_each(name: str, partitioned: dict[str, list[Seen]]) -> None:
    for seen in partitioned[name]:
        assert seen["whole"] == 0
        assert seen["held"] == pytest.approx(seen["elements"] / 2, rel=0.01)


def test_two_workers_read_each_byte_of_the_weights_once(
    recipes: dict[str, Recipe], partitioned: dict[str, list[Seen]]
) -> None:
    stored = stored_tensors(Path(recipes["tied"].model.path))
    assert stored is not None
    wanted = sum(tensor.numel * tensor.dtype.itemsize for tensor in stored.values())
    halves = [seen["read"] for seen in partitioned["tied"]]
    assert sum(halves) == wanted
    assert halves[0] == pytest.approx(wanted / 2, rel=0.01)


def test_fresh_weights_do_not_depend_on_the_world_size(
    recipes: dict[str, Recipe], partitioned: dict[str, list[Seen]], tmp_path: Path
) -> None:
    three = start([(recipes["random"], 3)], 3, tmp_path)[0]
    (one,) = start([(recipes["random"], 3)], 1, tmp_path)[0]
    for seen in [*partitioned["random"], *three]:
        assert seen["hash"] == one["hash"]
        assert seen["losses"] == pytest.approx(one["losses"], rel=1e-5)


@pytest.mark.parametrize("name", ["roberta", "bert", "llama"])
def test_a_fresh_head_is_the_same_proper_one_everywhere(
    name: str, plain: dict[str, Seen], partitioned: dict[str, list[Seen]]
) -> None:
    assert plain[name]["fresh"]
    for parameter, values in plain[name]["fresh"].items():
        if parameter.endswith("bias"):
            assert not any(values)
        else:
            # The tiny configurations start from normal(0, 0.2).
            assert statistics.pstdev(values) == pytest.approx(0.2, rel=0.25)
    assert [seen["hash"] for seen in partitioned[name]] == [plain[name]["hash"]] * 2


@pytest.mark.parametrize("name", ["roberta", "bert", "llama", "tied", "recomputed", "tiled", "lora", "dora"])
def test_partitioned_models_train_as_whole_ones(
    name: str, plain: dict[str, Seen], partitioned: dict[str, list[Seen]]
) -> None:
    for seen in partitioned[name]:
        assert seen["losses"] == pytest.approx(plain[name]["losses"], rel=1e-5)
        assert seen["grad_norms"] == pytest.approx(plain[name]["grad_norms"], rel=1e-4, abs=1e-6)


@pytest.mark.parametrize("name", ["recomputed", "tiled"])
def test_activations_that_are_not_kept_change_nothing(name: str, plain: dict[str, Seen]) -> None:
    assert plain[name]["losses"] == pytest.approx(plain["tied"]["losses"], rel=1e-5)
    assert plain[name]["grad_norms"] == pytest.approx(plain["tied"]["grad_norms"], rel=1e-5, abs=1e-7)


def test_candidate_answers_score_the_same_on_workers_with_unequally_many(
    plain: dict[str, Seen], partitioned: dict[str, list[Seen]]
) -> None:
    for seen in partitioned["tied"]:
        assert seen["log_p"] == pytest.approx(plain["tied"]["log_p"], rel=1e-4)
