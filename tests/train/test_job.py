"""A job's places mean the same to the driver, to Ray and to every worker."""

from __future__ import annotations

from pathlib import Path

import pytest

from distmed import shipped
from distmed.checkpoint.folder import checkpoint_root
from distmed.recipe_file import load_recipe
from distmed.rundir import RunDir


@pytest.mark.parametrize(
    ("storage", "root"),
    [
        ("null", "{here}/runs/smoke/checkpoints"),
        ("shelf/", "{here}/shelf/smoke"),
        ("/shelf", "/shelf/smoke"),
        ("~/shelf", "{home}/shelf/smoke"),
        ("s3://shelf/", "s3://shelf/smoke"),
    ],
)
def test_checkpoints_lie_at_an_absolute_place(
    storage: str, root: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    recipe = load_recipe(shipped.folder("recipes") / "smoke.yaml", [f"checkpoint.storage_path={storage}"])
    assert checkpoint_root(recipe, RunDir("runs/smoke")) == root.format(here=tmp_path, home=Path.home())
