"""A job's places mean the same to the driver, to Ray and to every worker."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from distmed import shipped
from distmed.checkpoint.folder import checkpoint_root
from distmed.recipe_file import load_recipe
from distmed.rundir import RunDir
from distmed.train import driver


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
    run = RunDir("runs/smoke")
    # As a worker is, elsewhere than the driver.
    monkeypatch.chdir("/")
    assert checkpoint_root(recipe, run) == root.format(here=tmp_path, home=Path.home())


def test_what_is_told_when_a_run_begins_and_when_it_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Patients whom training and evaluation share, once; then keys that changed, without credentials of URLs."""
    asked: list[Any] = []
    said: list[str] = []
    monkeypatch.setattr("distmed.stream.overlap.overlap", lambda *plans: asked.append(plans) or ["1 of 2 groups"])
    progress: Any = SimpleNamespace(note=said.append)
    recipe = load_recipe(shipped.folder("recipes") / "smoke.yaml")
    job: Any = SimpleNamespace(recipe=recipe, run=RunDir(tmp_path), train_plan="train", eval_plan="eval")
    driver._write_down(job, False, progress)
    assert asked == [("train", "eval")] and said == ["1 of 2 groups"]
    source = recipe.data.train[0].model_copy(update={"source": "https://ada:secret@shelf/rows"})
    job.recipe = recipe.model_copy(update={"data": recipe.data.model_copy(update={"train": [source]})})
    driver._write_down(job, True, progress)
    assert len(asked) == 1 and len(said) == 2
    assert said[1].startswith("changed since the last start: data.train from ") and "https://shelf/rows" in said[1]
    assert "secret" not in said[1]
    (tmp_path / "recipe.yaml").write_text("name: [torn")
    driver._write_down(job, True, progress)
    assert said[2] == "recipe.yaml of the last start cannot be read: what changed since is not known"
