"""What is wrong with a search before it starts, found without a cluster and with a look at one case of each source."""

from __future__ import annotations

import re
from typing import Any

import yaml

from distmed.errors import UserError, one_of
from distmed.evaluate.metrics import LOWER_IS_BETTER, METRICS, SUBGROUP
from distmed.recipe import Recipe
from distmed.rundir import RunDir
from distmed.tune.selection import was_scored
from distmed.tune.space import Space
from distmed.tuning import Tune
from distmed.values import MISSING, differences

CHANGEABLE_AT_RESUME = ("trials", "time_s", "accelerator_hours", "concurrency", "retries")
# Only these are worth a look at the folder of the model and the first case of each source.
OF_MODEL_OR_DATA = ("model", "data", "train.micro_batch", "train.mlp_tiles")


def metric_of(recipe: Recipe, tune: Tune) -> str:
    """What is sought; raises UserError where no evaluation gives it."""
    if not recipe.data.eval:
        raise UserError("a search needs data.eval to choose by, the recipe has none", "add eval cases to the recipe")
    metric = tune.metric or recipe.checkpoint.best
    known = ["eval/loss", *METRICS]
    if metric not in known and not metric.startswith(SUBGROUP):
        raise UserError(f"tune.metric: no evaluation gives {metric}", f"use one of {one_of(known, limit=20)}")
    return metric


def mode_of(metric: str, tune: Tune) -> str:
    """Which end of the metric is better; raises UserError where the recipe has it the wrong way."""
    right = "min" if metric in LOWER_IS_BETTER else "max"
    if tune.mode not in (None, right):
        raise UserError(f"tune.mode={tune.mode}, but the better {metric} is the {right} one", "leave tune.mode out")
    return right


def check_search(space: Space, tune: Tune, run_dir: RunDir) -> None:
    """Hold the recipe, and every end of every knob, against model, data and DeepSpeed."""
    from distmed.stream.store import check_data
    from distmed.train.preparation import check_inputs, check_settings

    if tune.search == "grid":
        space.grid()
    if tune.scheduler == "pbt":
        from distmed.tune.population import check_population

        check_population(space)
        if tune.seeds > 1:
            raise UserError("tune.scheduler: pbt has no settings to repeat over seeds", "leave tune.seeds out")
    metric = metric_of(space.recipe, tune)

    def judged(recipe: Recipe) -> Recipe:
        return recipe.model_copy(update={"checkpoint": recipe.checkpoint.model_copy(update={"best": metric})})

    check_inputs(judged(space.recipe), run_dir, resume=True)
    for source in space.recipe.data.test:
        check_data(source, space.recipe.task, run_dir.data)
    for key, value, recipe in space.candidates():
        try:
            if key.startswith(OF_MODEL_OR_DATA):
                check_inputs(judged(recipe), run_dir, resume=True)
            else:
                check_settings(judged(recipe), run_dir)
        except UserError as error:
            raise UserError(f"tune.space.{key}: {value!r} does not fit: {error.message}", error.hint) from error


def check_resume(recipe: Recipe, run_dir: RunDir, *, resume: bool) -> None:
    """A search goes on as it was: another space or recipe would make its trials incomparable."""
    exists = run_dir.recipe.exists()
    if exists and not resume:
        raise UserError(
            f"run {run_dir.name} exists already: {run_dir.path}", "continue it with --resume, or give another --name"
        )
    if resume and not exists:
        raise UserError(f"no search to resume at {run_dir.path}", "start it without --resume")
    if not exists:
        _refuse_leftovers(recipe, run_dir)
        return
    before = yaml.safe_load(run_dir.recipe.read_text(encoding="utf-8"))
    now = yaml.safe_load(recipe.to_yaml())
    scored = any(was_scored(out) for out in (run_dir / "test").glob("*"))
    found = differences(_lasting(before, scored=scored), _lasting(now, scored=scored))
    knobs = {f"tune.space.{key}" for key in now["tune"]["space"]}
    # A key that the earlier recipe lacks came with a newer version, but for a knob.
    changed = next((each for each in found if each.before is not MISSING or each.key in knobs), None)
    if changed:
        may = [*CHANGEABLE_AT_RESUME, *([] if scored else ["data.test"])]
        raise UserError(
            f"the search at {run_dir.path} had another {changed.key}",
            f"put it back, or start a new one with --name; only {', '.join(may)} may change",
        )


def _refuse_leftovers(recipe: Recipe, run_dir: RunDir) -> None:
    """The trials of a new search must not go on from checkpoints that those of another of its name left in storage_path."""
    from distmed.checkpoint import folder as folders
    from distmed.checkpoint.storage import Storage

    if recipe.checkpoint.storage_path is None:
        return
    where = Storage.at(folders.checkpoint_root(recipe, run_dir).rpartition("/")[0])
    of_trial = re.compile(rf"{re.escape(run_dir.name)}-\d{{5}}(\.\d+)?")
    left = [name for name in where.children() if of_trial.fullmatch(name) and folders.names(where / name)]
    if left:
        raise UserError(
            f"{where} holds checkpoints of an earlier search of this name: {one_of(sorted(left), 3)}",
            "give another --name, or take them away",
        )


def _lasting(values: dict[str, Any], *, scored: bool) -> dict[str, Any]:
    """What must stay: all but budgets, how long things are waited for, and test cases that nothing was scored on."""
    block = values.get("tune")
    if block is None:
        raise UserError("the run to resume is no search", "give --name, or resume it with `distmed train`")
    kept = {key: value for key, value in block.items() if key not in CHANGEABLE_AT_RESUME}
    data = {**values["data"], "test": values["data"].get("test") if scored else None}
    return {**values, "data": data, "tune": kept, "cluster": None, "tracking": None}
