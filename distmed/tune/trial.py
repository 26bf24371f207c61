"""One trial: the worker loop of `distmed train` over one setting, started, watched from evaluation to evaluation, and ended.

A setting flows in, evaluations and how it ended flow out. Everything here runs in the trial's own process on the driver's host;
what the trial writes lies in a run directory of its own, so a trial that died goes on from its newest checkpoint.
"""

from __future__ import annotations

import fcntl
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import ray

from distmed.checkpoint.storage import Storage, StorageError
from distmed.errors import UserError, last_line
from distmed.recipe import Recipe
from distmed.refusals import refusal
from distmed.rundir import RunDir
from distmed.train.job import Job
from distmed.train.logbook import Logbook, start_logbook
from distmed.train.stall import Group
from distmed.train.training import LOOK_EVERY_S, Training
from distmed.tune.copying import copy_checkpoint
from distmed.tune.space import Setting, Space

END_S = 10.0
# A search that goes on takes no other recipe: neither another place nor fewer checkpoints.
MEND_STORAGE = "free some disk, or mend the storage where it is; then --resume goes on with all trials"


@dataclass(frozen=True)
class Plan:
    """What all trials of a search share. `at_once`: trials on the cluster at a time, `per_host` of them on one host."""

    recipe: Recipe
    run: RunDir
    metric: str
    at_once: int
    per_host: int
    environment: dict[str, str]


@dataclass(frozen=True)
class Order:
    """One trial as the search wants it. `generation` counts the copies that it went on as; `clone`: the folder to copy."""

    trial: int
    point: int
    repeat: int
    setting: Setting
    generation: int = 0
    clone: str | None = None


class TrialLogbook(Logbook):
    """The logbook of a trial, which the search finds by its name: it can end the trial from outside."""

    def waits(self) -> bool:
        """Whether workers were asked for, and none is there."""
        return self.controller() is not None and not self.places

    def abandon(self, why: str) -> None:
        """Ends the workers as they are, without a checkpoint: the trial goes on from its last one where the search does."""
        self._tell("abandoned", why=why)


def logbook_name(run: RunDir, trial: int) -> str:
    return f"distmed-{run.name}-trial-{trial}"


def trial_folder(run: RunDir, trial: int, generation: int = 0) -> RunDir:
    """The run directory of a trial; each copy that it went on as has its own."""
    return RunDir(run / "trials" / (f"{trial:05d}" if generation == 0 else f"{trial:05d}.{generation}"))


def trial_recipe(plan: Plan, space: Space, order: Order) -> Recipe:
    """What `distmed train` would be given: the setting, its seed, and what is sought as the best checkpoint's metric."""
    recipe = space.recipe_of(order.setting)
    folder = trial_folder(plan.run, order.trial, order.generation)
    checkpoint: dict[str, Any] = {"best": plan.metric}
    if plan.recipe.tune is not None and plan.recipe.tune.scheduler == "pbt":
        # A copy takes the weights of an evaluation. Where they cannot be linked at once, they must last until they are read.
        checkpoint |= {"every": recipe.train.eval_every, "keep": max(4, recipe.checkpoint.keep)}
    return recipe.model_copy(
        update={
            "name": f"{plan.run.name}-{folder.name}",
            "train": recipe.train.model_copy(update={"seed": recipe.train.seed + order.repeat, "linear_floor": False}),
            "checkpoint": recipe.checkpoint.model_copy(update=checkpoint),
            "tracking": recipe.tracking.model_copy(update={"group": recipe.tracking.group or plan.run.name}),
        }
    )


class TrialRun:
    """Call `next` until it gives a result that is `done`; `end` gives all workers back, at any time."""

    def __init__(self, plan: Plan, order: Order) -> None:
        self.plan, self.order = plan, order
        self.recipe = trial_recipe(plan, Space(plan.recipe), order)
        self.run = trial_folder(plan.run, order.trial, order.generation)
        self.logbook: Any = None
        self.job: Job | None = None
        self.training: Training | None = None
        self.group = Group(self.recipe.cluster.stall_timeout_s, self._say)
        self.events: list[dict[str, Any]] = []
        self.result: dict[str, Any] | None = None

    def next(self) -> dict[str, Any]:
        """Wait for the next evaluation, or the end: `step`, `progress`, `value`, `metrics`, or `done`, `state`, `cause`.

        Each with the `generation` that it belongs to. A `hint` comes with what a person can mend: where the trial is `waiting`
        it is the storage, and no setting would fare better there.
        Raises RuntimeError where the workers died more often than cluster.max_failures allows.
        """
        return {**self._next(), "generation": self.order.generation}

    def _next(self) -> dict[str, Any]:
        try:
            if self.training is None:
                self._begin()
        except Exception as error:
            return self._not_begun(error)
        assert self.training is not None
        while True:
            alive = self.training.is_alive()
            self.events += ray.get(self.logbook.news.remote())
            while self.events:
                found = self._take(self.events.pop(0))
                if found is not None:
                    return found
            self.group.look()
            if self.result is not None and (not alive or self.group.is_silent()):
                return self._came_to_end(self.result)
            if not self.group.places and ray.get(self.logbook.stop_asked.remote()):
                # What was saved stays; workers that may never come are not waited for.
                return self._ended("waiting", "")
            if not alive:
                met = self.training.error
                refused = _refused_by_storage(met, self.run) if met else None
                if refused is not None:
                    return self._paused(refused.message)
                self.end()
                raise RuntimeError(last_line(met, "the workers ended without a word"))
            self.training.wait(LOOK_EVERY_S)

    def end(self, summary: dict[str, Any] | None = None) -> None:
        """End the workers if there are any, and close the W&B run: without a summary as failed. May be called again."""
        if self.logbook is None:
            return
        logbook, self.logbook = self.logbook, None
        if self.training is not None:
            self.training.end()
        ray.get(logbook.finish.remote(summary or {}))
        ray.kill(logbook)

    # ------------------------------------------------------------------ from start to end

    def _begin(self) -> None:
        from distmed.checkpoint import folder as folders
        from distmed.train.preparation import write_run_files

        self.run.path.mkdir(parents=True, exist_ok=True)
        name = logbook_name(self.plan.run, self.order.trial)
        _free(name)
        self.logbook = start_logbook(self.recipe, self.run, self.plan.environment, kind=TrialLogbook, name=name)
        self.job = job = self._make_job()
        write_run_files(job)
        if self.order.clone and folders.newest_complete(job.checkpoints)[0] is None:
            # What is there was cut short.
            Storage.at(job.checkpoints).remove()
            copy_checkpoint(self.order.clone, job.checkpoints)
        self.training = Training(job, self.logbook, trials_per_host=self.plan.per_host)

    def _make_job(self) -> Job:
        """Data, token counts and the built-in model are the search's, made by the first who needs them."""
        from distmed.session import on_gpu
        from distmed.train.preparation import make_job
        from distmed.train.progress import Progress

        shared = self.plan.run
        with Path(os.devnull).open("w") as nowhere, _alone(shared.data / ".lock"):
            progress = Progress(nowhere, live=False)
            return replace(make_job(self.recipe, shared, gpu=on_gpu(), resume=False, progress=progress), run=self.run)

    def _say(self, text: str) -> None:
        """To the search's log."""
        print(f"trial {self.order.trial}: {text}", file=sys.stderr, flush=True)

    def _take(self, event: dict[str, Any]) -> dict[str, Any] | None:
        assert self.job is not None
        self.group.take(event)
        match event["kind"]:
            case "evaluation":
                metrics = event["metrics"]
                return {
                    "step": event["step"],
                    "progress": event["step"] / self.job.total_steps,
                    "value": metrics[self.plan.metric],
                    "metrics": metrics,
                }
            case "fatal":
                if event["of_storage"]:
                    return self._paused(event["message"])
                mend = {"hint": event["hint"]} if event["reason"] == "user" else {}
                return {**self._ended("failed", event["message"]), **mend}
            case "abandoned":
                return self._ended("waiting", event["why"])
            case "failed":
                self.result = None
            case "done":
                # Told by the first worker; others may still write their part of the last checkpoint.
                self.result = event["result"]
        return None

    def _not_begun(self, error: Exception) -> dict[str, Any]:
        """The end of a trial before it has workers; an error that no person can mend is raised."""
        refused = _refused_by_storage(error, self.run)
        if refused is not None:
            return self._paused(refused.message)
        if not isinstance(error, UserError):
            raise error
        return {**self._ended("failed", error.message), "hint": error.hint}

    def _paused(self, cause: str) -> dict[str, Any]:
        """The end of a trial to which the storage refused something."""
        return {**self._ended("waiting", cause), "hint": MEND_STORAGE}

    def _came_to_end(self, result: dict[str, Any]) -> dict[str, Any]:
        if result["stopped"]:
            return self._ended("waiting", "")
        return self._ended("done", "", tokens_per_s=result["speed"]["tokens_per_s"], steps=result["state"]["step"])

    def _ended(self, state: str, cause: str, **figures: Any) -> dict[str, Any]:
        facts = {"state": state, "cause": cause, **figures}
        self.end({} if state == "failed" else facts)
        return {"done": True, **facts}


def _refused_by_storage(error: BaseException, where: object) -> UserError | None:
    """What the place where things are kept refused, whatever the setting; in the words of who wrote, where it has some."""
    if isinstance(error, StorageError):
        return error
    refused = refusal(error, where)
    if refused is None and error.__cause__ is not None:
        refused = _refused_by_storage(error.__cause__, where)
    return error if refused is not None and isinstance(error, UserError) else refused


@contextmanager
def _alone(lock: Path) -> Iterator[None]:
    """One trial of this host at a time."""
    with lock.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _free(name: str) -> None:
    """A logbook that a killed trial process left may still hold the name."""
    deadline = time.monotonic() + END_S
    while time.monotonic() < deadline:
        try:
            ray.kill(ray.get_actor(name))
        except ValueError:
            return
        time.sleep(0.1)
