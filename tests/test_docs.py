"""README and docs are held to the code: their commands parse, and the files and targets they name are there."""

from __future__ import annotations

import itertools
import re
import shlex
import tomllib
from pathlib import Path
from typing import Any

import pytest
import typer

from distmed.cases.read import read_cases
from distmed.cli import app
from distmed.recipe_file import check, load_recipe
from distmed.values import parse

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


def recipes_in(page: Path) -> list[str]:
    return re.findall(r"```yaml\n(.*?)```", page.read_text(encoding="utf-8"), flags=re.DOTALL)


@pytest.mark.parametrize("text", [text for page in PAGES for text in recipes_in(page)])
def test_a_shown_part_of_a_recipe_is_one(text: str) -> None:
    values: dict[str, Any] = {
        "name": "a",
        "task": "generate" if "sequence_parallel" in text else "classify",
        "model": {"path": "m"},
        "data": {"train": [{"source": "x"}]},
    }
    for key, value in parse(text).items():
        values[key] = {**values.get(key, {}), **value} if isinstance(value, dict) else value
    check(values)


def test_the_recipe_of_the_readme_takes_the_table_that_it_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    rows = (f'"fever, day {n}",B54,patient-{n // 2}\n' for n in range(200))
    (tmp_path / "notes.csv").write_text("note,icd10,patient_id\n" + "".join(rows))
    (text,) = recipes_in(ROOT / "README.md")
    (tmp_path / "mine.yaml").write_text(text)
    data = load_recipe("mine.yaml").data
    train, held_out = ([case.group for case in read_cases(source)] for source in (data.train[0], data.eval[0]))
    assert len(train) + len(held_out) == 200
    assert held_out and not {*train} & {*held_out}


def test_the_chain_of_imports_is_the_one_that_is_held() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    layers = project["tool"]["importlinter"]["contracts"][0]["layers"]
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    chain = re.search(r"\(`make lint` checks it\): (.+?)\. ", text, flags=re.DOTALL)
    assert chain
    shown = [re.findall(r"\w+", step) for step in chain[1].split("◄")]
    height = {room: n for n, layer in enumerate(reversed(layers)) for room in re.findall(r"distmed\.(\w+)", layer)}
    rooms = {path.parent.name for path in (ROOT / "distmed").glob("*/__init__.py")} | {"cli", "session"}
    assert rooms <= {room for step in shown for room in step}
    for below, above in itertools.pairwise(shown):
        assert max(height[room] for room in below) < min(height[room] for room in above)
