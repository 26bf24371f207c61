"""A job's places mean the same to the driver, to Ray and to every worker."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from distmed import shipped
from distmed.checkpoint.folder import checkpoint_root
from distmed.recipe_file import load_recipe
from distmed.rundir import RunDir
from distmed.train.preparation import make_job
from distmed.train.progress import Progress


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


def test_patients_of_the_evaluation_that_training_has_are_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "train.csv").write_text("text,label,who\nfever,flu,ada\ncough,croup,bob\n")
    (tmp_path / "eval.csv").write_text("text,label,who\nchills,flu,ada\nbark,croup,eve\n")
    columns = "columns: {text: text, label: label, group: who}"
    sources = [f"data.{of}=[{{source: {tmp_path}/{of}.csv, {columns}}}]" for of in ("train", "eval")]
    recipe = load_recipe(shipped.folder("recipes") / "smoke.yaml", sources)
    make_job(recipe, RunDir(tmp_path / "run"), gpu=False, resume=False, progress=Progress(sys.stdout, live=False))
    assert "note: 1 of 2 groups (patients, papers) of data.eval are in data.train, too" in capsys.readouterr().out
