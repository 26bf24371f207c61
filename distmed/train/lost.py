"""Checkpoints that a run saved and that are not where its recipe has them: it must not begin anew as if there were none.

What was saved flows into a small file of the run directory; a UserError flows out where nothing of it is found.
"""

from __future__ import annotations

import json
from contextlib import suppress

from distmed.checkpoint import folder as folders
from distmed.checkpoint.storage import StorageError
from distmed.errors import UserError
from distmed.recipe import Recipe
from distmed.recipe_file import load_recipe
from distmed.rundir import RunDir


def remember_saved(run: RunDir, step: int) -> None:
    """The newest checkpoint of `run` is that of `step`; 0: there is none."""
    if not step:
        run.saved.unlink(missing_ok=True)
        return
    fresh = run.saved.with_name(run.saved.name + ".tmp")
    fresh.write_text(json.dumps({"step": step}) + "\n", encoding="utf-8")
    fresh.replace(run.saved)


def refuse_lost(recipe: Recipe, run: RunDir) -> None:
    """For a run without a whole checkpoint. Raises UserError where some lie at the place of the last start, or one was saved
    and none is left; damaged ones are no reason.
    """
    root = folders.checkpoint_root(recipe, run)
    earlier = _earlier_root(run) or root
    if earlier != root and _has_whole(earlier):
        raise UserError(
            f"the checkpoints of run {run.name} lie in {earlier}, and there is none in {root}",
            f"copy them to {root}, or set checkpoint.storage_path back; then --resume",
        )
    if run.saved.exists() and not folders.names(root):
        step = json.loads(run.saved.read_text(encoding="utf-8"))["step"]
        was = "" if earlier == root else f" in {earlier}"
        raise StorageError(
            f"there is no checkpoint in {root}, though that of step {step} was saved{was}",
            "mount the storage, or bring the checkpoints back, then --resume; or start a new run with another --name",
        )


def _earlier_root(run: RunDir) -> str | None:
    """Where the checkpoints lie by the recipe of the last start; None if it cannot be read."""
    with suppress(UserError):
        return folders.checkpoint_root(load_recipe(run.recipe), run)
    return None


def _has_whole(root: str) -> bool:
    with suppress(Exception):  # every store behind fsspec has errors of its own
        return folders.newest_complete(root)[0] is not None
    return False
