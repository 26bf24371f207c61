"""README and docs are held to the code: their commands parse, and the files and targets they name are there."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import typer

from distmed.cli import app
from distmed.recipe_file import load_recipe

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
VERBS: dict[str, Any] = typer.main.get_command(app).commands  # type: ignore[attr-defined]


def commands() -> list[list[str]]:
    """The words of every command that a page shows behind a `$`."""
    shown = []
    for page in PAGES:
        text = page.read_text(encoding="utf-8").replace("\\\n", " ")
        shown += [shlex.split(line, comments=True) for line in re.findall(r"^\$ (.+)$", text, flags=re.MULTILINE)]
    return shown


def arguments_of(program: str) -> list[list[str]]:
    return [words[1:] for words in commands() if words[0] == program]


@pytest.mark.parametrize("words", arguments_of("distmed"), ids=" ".join)
def test_a_shown_command_is_understood(words: list[str]) -> None:
    verb, arguments = words[0], words[1:]
    VERBS[verb].make_context(verb, list(arguments))
    recipe = next((word for word in arguments if word.startswith("recipes/")), None)
    if recipe:
        load_recipe(ROOT / recipe, [word for word in arguments if "=" in word])


@pytest.mark.parametrize("words", arguments_of("make"), ids=" ".join)
def test_a_shown_target_is_in_the_makefile(words: list[str]) -> None:
    assert re.search(rf"^{words[0]}:", (ROOT / "Makefile").read_text(encoding="utf-8"), flags=re.MULTILINE)


def test_scripts_and_recipes_that_are_named_are_there() -> None:
    named = {
        name
        for page in PAGES
        for name in re.findall(
            r"(?<![\w/.])(?:slurm|launch|recipes|benchmarks|ds_configs|docs)/[\w./-]+\.\w+",
            page.read_text(encoding="utf-8"),
        )
    }
    assert named, "no page names a file"
    assert [name for name in sorted(named) if "DATE" not in name and not (ROOT / name).is_file()] == []


def test_the_readme_lists_every_verb() -> None:
    listed = re.findall(r"^\| `distmed (\w+)", (ROOT / "README.md").read_text(encoding="utf-8"), flags=re.MULTILINE)
    assert sorted(listed) == sorted(VERBS)
