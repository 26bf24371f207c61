"""A run that has saved checkpoints does not begin anew because they lie elsewhere, or are gone."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from distmed import shipped
from distmed.checkpoint.folder import checkpoint_root
from distmed.checkpoint.storage import StorageError
from distmed.errors import UserError
from distmed.recipe import Recipe
from distmed.recipe_file import load_recipe
from distmed.rundir import RunDir
from distmed.train.logbook import Logbook
from distmed.train.lost import refuse_lost
from tests.checkpoint import make
from tests.train.conftest import Run
from tests.train.door import NAME, SMALL, Door


def recipe(*overrides: str) -> Recipe:
    return load_recipe(shipped.folder("recipes") / "smoke.yaml", list(overrides))


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RunDir:
    """One that was started on two workers, in `tmp_path`."""
    monkeypatch.setenv("WANDB_MODE", "disabled")
    monkeypatch.chdir(tmp_path)
    made = RunDir("runs/smoke")
    made.path.mkdir(parents=True)
    made.recipe.write_text(recipe().to_yaml())
    return made


def save(run: RunDir, step: int, attempt: int = 0) -> Logbook:
    """As two workers do, where the recipe on disk has it."""
    before = load_recipe(run.recipe)
    book = Logbook(before, run.path, attempt, {})
    book.attempt_starts(0, 2, [])
    make.write(checkpoint_root(before, run), step, attempt=attempt)
    for _ in range(2):
        book.saved(step, 2)
    return book


def test_checkpoints_at_the_place_of_the_last_start_are_named(run: RunDir) -> None:
    """What the hint of a full disk leads to, where nobody copies them."""
    save(run, 100)
    larger = recipe("checkpoint.storage_path=larger")
    with pytest.raises(UserError) as refused:
        refuse_lost(larger, run)
    assert f"the checkpoints of run smoke lie in {run.checkpoints}" in refused.value.message
    assert "copy them to " in refused.value.hint and str(Path("larger/smoke").resolve()) in refused.value.hint
    run.saved.unlink()  # as of an earlier version
    with pytest.raises(UserError, match="lie in "):
        refuse_lost(larger, run)


@pytest.mark.parametrize("moved", [False, True])
def test_checkpoints_that_are_gone_are_said(run: RunDir, moved: bool) -> None:
    save(run, 100)
    shutil.rmtree(run.checkpoints)
    now = recipe(*(["checkpoint.storage_path=larger"] if moved else []))
    with pytest.raises(UserError) as refused:
        refuse_lost(now, run)
    was = f" in {run.checkpoints}" if moved else ""
    assert refused.value.message.endswith(f", though that of step 100 was saved{was}")
    assert "mount the storage" in refused.value.hint


def test_a_restart_within_the_run_is_refused_as_well(run: RunDir) -> None:
    """The workers ask the driver's host where they see no checkpoint. It is no mistake of a trial's setting."""
    book = save(run, 100)
    assert book.checkpoints() == 1
    shutil.rmtree(run.checkpoints)
    with pytest.raises(StorageError, match="that of step 100 was saved"):
        book.checkpoints()


def test_a_run_that_died_before_its_first_checkpoint_goes_on(run: RunDir) -> None:
    book = Logbook(recipe(), run.path, 0, {})
    book.attempt_starts(0, 2, [])
    book.log(3, {"train/loss": 1.0}, {}, True)
    book.saved(4, 2)  # the other rank's part is not there
    refuse_lost(recipe(), run)
    refuse_lost(recipe("checkpoint.storage_path=larger"), run)
    assert book.checkpoints() == 0
    run.recipe.write_text("name: [torn")
    refuse_lost(recipe(), run)


def test_a_run_that_begins_anew_forgets_what_was_saved(run: RunDir) -> None:
    """All was damaged, and that was said; or the run before it was taken away but for a file."""
    save(run, 100)
    shutil.rmtree(run.checkpoints)
    Logbook(recipe(), run.path, 1, {}).attempt_starts(0, 2, [])
    refuse_lost(recipe(), run)


def test_a_resume_knows_what_it_goes_on_from(run: RunDir) -> None:
    """Also of a run that an earlier version began."""
    Logbook(recipe(), run.path, 1, {}).attempt_starts(40, 2, [])
    with pytest.raises(UserError, match="that of step 40 was saved"):
        refuse_lost(recipe(), run)


# ------------------------------------------------------------------ the door


@pytest.fixture
def copied(small: Run, tmp_path: Path) -> Run:
    """A copy of the small run, where `door` finds it."""
    shutil.copytree(small.path, tmp_path / "runs" / NAME)
    return Run(tmp_path / "runs" / NAME)


@pytest.mark.slow
@pytest.mark.usefixtures("ray_address")
def test_a_resume_at_another_place_is_refused(copied: Run, door: Door) -> None:
    refusal = door.refuse("--resume", "checkpoint.storage_path=larger")
    assert f"lie in {copied.path / 'checkpoints'}, and there is none in " in refusal.message
    assert len(copied.lines) == 10


@pytest.mark.slow
@pytest.mark.usefixtures("ray_address")
def test_a_resume_without_its_checkpoints_is_refused(copied: Run, door: Door) -> None:
    shutil.rmtree(copied.path / "checkpoints")
    refusal = door.refuse("--resume")
    assert refusal.message.endswith("though that of step 10 was saved")
    assert len(copied.lines) == 10


@pytest.mark.slow
def test_a_resume_before_the_first_checkpoint_begins_again_and_says_so(small: Run, start: Callable[..., Any]) -> None:
    run = Run(Path(shutil.copytree(small.path, small.path.parent / "unsaved")))
    shutil.rmtree(run.path / "checkpoints")
    (run.path / "saved.json").unlink()
    process = start(*SMALL, "--name", "unsaved", "--resume", env={"WANDB_MODE": "disabled"})
    output, _ = process.communicate(timeout=400)
    assert process.returncode == 0, output
    assert "no checkpoint was saved yet: starts from the beginning" in output
    assert run.losses == small.losses
