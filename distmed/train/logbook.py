"""The logbook: one Ray actor on the driver's host between the workers and everything that outlives them.

Workers write metrics, evaluations and fatal errors into it; it keeps metrics.jsonl and the W&B run, so that both survive a
restart of the workers. The driver reads the news from it and leaves its wish to stop.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from distmed.checkpoint import folder as folders
from distmed.checkpoint.storage import StorageError
from distmed.errors import first_line, one_of
from distmed.evaluate.metrics import Confusion, DiseaseRow
from distmed.evaluate.plots import Plot
from distmed.recipe import Recipe
from distmed.rundir import RunDir
from distmed.train.lost import refuse_lost, remember_saved
from distmed.train.repeated import Repeated
from distmed.train.stall import Place
from distmed.train.tracking import Tracker

STOP_ASKED_EVERY_S = 0.2


class Logbook:
    """Plain Python; `start_logbook` makes the actor. Events are dicts with a `kind`.

    `environment`: the driver's variables that tracking heeds; as an argument, so that no key shows among the actors.
    """

    def __init__(self, recipe: Recipe, path: Path, first_attempt: int, environment: dict[str, str]) -> None:
        os.environ.update(environment)
        self.recipe, self.run = recipe, RunDir(path)
        self.tracker = Tracker(recipe, self.run)
        self.events: list[dict[str, Any]] = []
        self.next_attempt = first_attempt
        self.first_attempt = first_attempt
        self.stop = False
        self.grow = self.leave = self.ended_to_go_on = False
        self.last_step = 0
        self.world = 0
        self.restarts = 0
        self.causes: list[str] = []
        self.told_failure = False
        self.places: dict[int, Place] = {}
        self.troubled = -1
        self.written: Counter[int] = Counter()
        self.repeated = Repeated()
        self._controller: Any = None

    def controller_is(self, controller: Any) -> None:
        self._controller = controller

    def controller(self) -> Any:
        """Ray Train's controller of the workers there are, or were last; None until it says that it is there."""
        return self._controller

    def worker_starts(self, place: Place) -> None:
        """A worker is there, before it loads anything."""
        self.places[place.rank] = place
        self.told_failure = False
        self._tell("worker", place=place)

    def whereabouts(self) -> dict[int, Place]:
        """Where the workers of this attempt run, by rank."""
        return self.places

    def workers_failed(self, errors: dict[int, str], died: list[int], lost: list[str], preempted: bool = False) -> None:
        """The group ended by itself: what each rank met, which of them `died`, and the `lost` hosts (Ray's ids).

        `preempted`: a host was taken away with notice, before its workers had left it. Ray may say so more
        than once of one group.
        """
        if self.told_failure:
            return
        self.told_failure = True
        self.causes.append(_cause(self.places, errors, died, lost))
        self.places = {}
        self.ended_to_go_on = False
        self._tell("failed", cause=self.causes[-1], preempted=preempted)

    def checkpoints(self) -> int:
        """How many checkpoints of the run the driver's host sees, whole or not. Raises UserError where it has lost all."""
        refuse_lost(self.recipe, self.run)
        return len(folders.names(folders.checkpoint_root(self.recipe, self.run)))

    def attempt_starts(self, step: int, world: int, notes: list[str]) -> int:
        """Training goes on after `step`: what was logged beyond it is cut, and said. The number of this attempt."""
        attempt = self.next_attempt
        self.next_attempt += 1
        repeated = max(0, self.last_step - step)
        self.tracker.attempt_starts(step, attempt)
        self._remember_saved(step)
        for note in notes:
            self._tell("note", text=note)
        workers = "" if world == self.world or not self.world else f" on {world} workers instead of {self.world}"
        if self.ended_to_go_on:
            self._tell("note", text=f"goes on after step {step}{workers}; no step repeated")
        elif self.causes or attempt > self.first_attempt:
            self.restarts += max(1, len(self.causes))
            cause = ", then ".join(self.causes) or "the workers ended"
            lost = f"{repeated} step{'' if repeated == 1 else 's'} repeated"
            text = f"restart {self.restarts}: {cause}; {lost}; goes on after step {step}{workers}"
            self._tell("restart", text=text, count=self.restarts)
        elif step:
            self._tell("note", text=f"resumed after step {step}")
        self._tell("attempt", world=world)
        self.repeated.restart()
        self.last_step, self.world = step, world
        self.places = {rank: place for rank, place in self.places.items() if rank < world}
        self.causes, self.told_failure = [], False
        self.written.clear()
        self.grow = self.ended_to_go_on = False
        return attempt

    def log(self, step: int, metrics: dict[str, float], evaluation: dict[str, float], shown: bool) -> None:
        """One step; `shown` ones go to metrics.jsonl and W&B, the others only move the live line."""
        self.last_step = max(self.last_step, step)
        if shown:
            self._track(self.tracker.log, step, metrics | evaluation)
        self._tell("step", step=step, metrics=metrics, shown=shown)
        if text := self.repeated.log(step, metrics["train/loss"]):
            self._tell("note", text=text)
        if evaluation:
            self._tell("evaluation", step=step, metrics=evaluation)

    def log_late(self, step: int, evaluation: dict[str, float]) -> None:
        """The evaluation that a stop at `step` left out, made before the next step."""
        self._track(self.tracker.log_late, step, evaluation)
        self._tell("evaluation", step=step, metrics=evaluation)

    def _track(self, log: Callable[[int, dict[str, float]], None], step: int, metrics: dict[str, float]) -> None:
        try:
            log(step, metrics)
        except OSError as error:
            # Nobody waits for the answer to this call: unsaid, the rest of the curve would be missing.
            self.stop = True
            self.fatal("user", f"cannot write {self.run.metrics}: {error.strerror}", "make room, then --resume", True)

    def log_tables(
        self, step: int, confusion: list[Confusion], per_disease: list[DiseaseRow], plots: list[Plot]
    ) -> None:
        """Which diagnoses are taken for which, how each disease fares, and the plots of an evaluation."""
        self.tracker.log_tables(step, confusion, per_disease, plots)

    def keep_probe(self, content: bytes) -> None:
        """The logits of the best evaluation so far, and the cases they are of: for the eyes of this user alone."""
        path = self.run.probe
        path.parent.mkdir(mode=0o700, exist_ok=True)
        partial = path.with_suffix(".partial")
        partial.touch(mode=0o600)
        partial.write_bytes(content)
        partial.rename(path)

    def note(self, text: str) -> None:
        self._tell("note", text=text)

    def saved(self, step: int, world: int) -> None:
        """One rank's part of the checkpoint of `step` is written; told once all `world` are."""
        self.written[step] += 1
        if self.written[step] == world:
            self._tell("saved", step=step)
            self._remember_saved(step)

    def _remember_saved(self, step: int) -> None:
        try:
            remember_saved(self.run, step)
        except OSError as error:
            self._tell("note", text=f"cannot write {self.run.saved}: {error.strerror}")

    def storage_fails(self, step: int, text: str) -> None:
        """A checkpoint cannot be written now, and is tried again; said once for all ranks."""
        if step > self.troubled:
            self.troubled = step
            self._tell("note", text=text)

    def steps_end(self) -> None:
        """No more steps come: the last checkpoint is on its way."""
        self._tell("ending")

    def fatal(self, kind: str, message: str, hint: str, of_storage: bool = False) -> None:
        """The workers ended for a reason that a restart would only repeat.

        `kind`: `user` or `memory`, which a person can mend; `memory_of_fewer`, on fewer workers than asked for; or `run`.
        `of_storage`: what the user can mend is where things are kept, and no recipe would fare better there.
        """
        self._tell("fatal", reason=kind, message=message, hint=hint, of_storage=of_storage)

    def done(self, result: dict[str, Any]) -> None:
        """The loop came to its end, or was stopped after a checkpoint."""
        self.ended_to_go_on = result["grows"] or (self.leave and not self.stop)
        self._tell("done", result=result)

    def stop_asked(self) -> bool:
        return self.stop or self.leave

    def ask_to_stop(self) -> None:
        self.stop = True

    def ask_to_leave(self, wish: bool) -> None:
        """A host of these workers is taken away soon: they stop as if asked to, and others go on. Or they have ended."""
        self.leave = wish

    def ask_to_grow(self, wish: bool) -> None:
        """There is room for more workers, or no more."""
        self.grow = wish

    def grow_asked(self) -> bool:
        return self.grow

    def news(self) -> list[dict[str, Any]]:
        """The events since the last call."""
        notes, self.tracker.notes = self.tracker.notes, []
        for note in notes:
            self._tell("note", text=note)
        events, self.events = self.events, []
        return events

    def finish(self, summary: dict[str, Any]) -> None:
        """Close the W&B run."""
        self.tracker.finish(summary)

    def _tell(self, kind: str, **fields: Any) -> None:
        self.events.append({"kind": kind, **fields})


def start_logbook(
    recipe: Recipe,
    run: RunDir,
    environment: dict[str, str],
    *,
    kind: type[Logbook] = Logbook,
    name: str | None = None,
) -> Any:
    """The actor, on this host; its attempts go on from those of the checkpoints. StorageError where these cannot be listed."""
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    root = folders.checkpoint_root(recipe, run)
    try:
        attempt = folders.next_attempt(root)
    except Exception as error:  # every store behind fsspec has errors of its own
        raise StorageError(f"cannot read {root}: {first_line(error)}", "mend the storage, then --resume") from error
    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    actor: Any = ray.remote(kind).options(num_cpus=0, name=name, scheduling_strategy=here)
    return actor.remote(recipe, run.path, attempt, environment)


def _cause(places: dict[int, Place], errors: dict[int, str], died: list[int], lost: list[str]) -> str:
    """Why a group ended, in a few words. Ranks whose peers are gone fail, too: what died goes first."""

    def hosts(ranks: list[int]) -> str:
        return one_of(sorted({places[rank].host for rank in ranks if rank in places}) or ["an unknown host"])

    of_lost = [rank for rank, place in places.items() if place.node in lost]
    if of_lost:
        return f"host {hosts(of_lost)} was lost"
    if died:
        return f"worker on {hosts(died)} died"
    rank, error = min(errors.items(), default=(0, "no reason given"))
    return f"worker on {hosts([rank])} failed: {error}"


class StopWish:
    """The driver's wish to stop, as the first worker sees it: asked for in the background, no step waits for the answer."""

    def __init__(self, logbook: Any, *, listens: bool) -> None:
        self._logbook = logbook
        self._listens = listens
        self._seen = threading.Event()
        if listens:
            threading.Thread(target=self._listen, name="stop wish", daemon=True).start()

    def _listen(self) -> None:
        import ray

        # Without a logbook the run is over.
        with contextlib.suppress(ray.exceptions.RayError):
            while not ray.get(self._logbook.stop_asked.remote()):
                time.sleep(STOP_ASKED_EVERY_S)
            self._seen.set()

    def seen(self) -> bool:
        return self._seen.is_set()

    def grows(self) -> bool:
        """Whether to end here, after a checkpoint, so that more workers can go on. A collective: all ranks call it."""
        import ray
        import torch.distributed as dist

        wish = [bool(ray.get(self._logbook.grow_asked.remote())) if self._listens else False]
        dist.broadcast_object_list(wish, src=0)
        return wish[0]
