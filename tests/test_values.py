"""Plain values from text, and where two nests of them differ."""

from __future__ import annotations

from distmed import shipped
from distmed.recipe_file import load_recipe
from distmed.train.resume import changes
from distmed.values import MISSING, differences


def test_differences_have_the_dotted_key_and_both_values() -> None:
    before = {"a": 1, "b": {"c": 2, "gone": 3}, "d": [{"e": 4}]}
    now = {"a": 1, "b": {"c": 5, "new": 6}, "d": [{"e": 7}]}
    assert list(differences(before, now)) == [
        ("b.c", 2, 5),
        ("b.gone", 3, MISSING),
        ("b.new", MISSING, 6),
        ("d", [{"e": 4}], [{"e": 7}]),
    ]


def test_a_recipe_that_changed_since_the_last_start_is_told_by_key() -> None:
    recipe = load_recipe(shipped.folder("recipes") / "smoke.yaml")
    lower = recipe.model_copy(update={"optimizer": recipe.optimizer.model_copy(update={"lr": 1e-6})})
    assert changes(recipe.to_yaml(), recipe) == []
    assert changes(recipe.to_yaml(), lower) == [
        f"changed since the last start: optimizer.lr from {recipe.optimizer.lr} to 1e-06"
    ]
    older = recipe.to_yaml().replace("  seed: 1\n", "")
    assert older != recipe.to_yaml() and changes(older, recipe) == []
