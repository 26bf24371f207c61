"""What a launch script asks of a recipe before it starts anything: `python -m distmed.cluster.launch [RECIPE] [key=value …]`.

The arguments of `distmed train` or `distmed tune` flow in; one line `NAME WORKERS FOLDER` flows out: of a range of workers the
most, and `-` where neither the recipe nor an argument says how many. A mistake in the recipe is told here, before a cluster is
started for it.
"""

from __future__ import annotations

import sys
from pathlib import Path

from distmed.errors import mistakes_told
from distmed.recipe import Recipe
from distmed.recipe_file import load_recipe
from distmed.train.driver import run_folder, unnamed_recipe

OPTIONS = {"--name": "name", "--num-workers": "cluster.num_workers", "--num-trials": "tune.trials"}
FLAGS = {"--resume", "--verbose", "--force"}


def recipe_of(arguments: list[str]) -> Recipe:
    """The recipe that they name, with what they override; raises UserError as `distmed train` would."""
    given: list[str] = []
    said: list[str] = []
    words = iter(word for word in arguments if word not in FLAGS)
    for word in words:
        option, equals, value = word.partition("=")
        if option in OPTIONS:
            said.append(f"{OPTIONS[option]}={value if equals else next(words, '')}")
        else:
            given.append(word)
    path = Path(given.pop(0)) if given and "=" not in given[0] else None
    overrides = [*given, *said]
    path = path or unnamed_recipe(overrides, resume="--resume" in arguments)
    return load_recipe(path, overrides)


def facts(arguments: list[str]) -> str:
    """The line; raises UserError as `distmed train` would."""
    recipe = recipe_of(arguments)
    workers = recipe.cluster.most if "num_workers" in recipe.cluster.model_fields_set else "-"
    return f"{recipe.name} {workers} {run_folder(recipe.name).path}"


def main() -> None:
    with mistakes_told():
        print(facts(sys.argv[1:]))


if __name__ == "__main__":
    main()
