"""The driver of `distmed train`: prepares a job, has Ray run it, shows what happens, and finishes what comes out.

Signals end here: Ctrl-C once asks the workers to finish their step and save; a second one ends at once.
"""

from __future__ import annotations

import errno
import os
import shutil
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

from distmed import session
from distmed.chatter import Chatter
from distmed.errors import UserError
from distmed.recipe import Recipe
from distmed.rundir import RunDir
from distmed.train.progress import Progress

if TYPE_CHECKING:
    from distmed.train.job import Job

DONE, FAILED, INTERRUPTED = 0, 1, 130
SAY_WAIT_AFTER_S = 10


def run_folder(name: str) -> RunDir:
    """Runs are kept below the folder that distmed is started in."""
    return RunDir(Path("runs") / name)


def run(recipe: Recipe, *, resume: bool = False, verbose: bool = False) -> int:
    """Train as the recipe says and return the exit status: 0 done, 1 failed, 130 interrupted with a checkpoint saved.

    Raises UserError for what the user can mend. If that is found before the workers start, nothing of the run is left.
    """
    run_dir = run_folder(recipe.name)
    _check_run(run_dir, resume)
    try:
        return _run(recipe, run_dir, resume=resume, verbose=verbose)
    except Exception as error:
        if not _is_disk_full(error):
            raise
        where = getattr(error, "filename", None) or run_dir.path
        raise UserError(f"no space left on the disk of {where}", "free some, or start where there is more") from error


def _is_disk_full(error: Exception) -> bool:
    from distmed.checkpoint.storage import is_disk_full

    # Libraries written in Rust, such as tokenizers, have it in the text only.
    return is_disk_full(error) if isinstance(error, OSError) else f"os error {errno.ENOSPC}" in str(error)


def _run(recipe: Recipe, run_dir: RunDir, *, resume: bool, verbose: bool) -> int:
    made = not run_dir.path.exists()
    try:
        run_dir.path.mkdir(parents=True, exist_ok=True)
    except (PermissionError, NotADirectoryError, FileExistsError) as error:
        raise UserError(f"cannot write to {run_dir.path}: {error.strerror}", "start in another folder") from error
    with Chatter(run_dir.log, show=verbose) as chatter, ExitStack() as stack:
        progress = Progress(chatter.terminal)
        try:
            job = _prepare(recipe, run_dir, resume, progress, stack)
        except BaseException:
            if made:
                shutil.rmtree(run_dir.path, ignore_errors=True)
            raise
        return _train(job, progress)


def _check_run(run_dir: RunDir, resume: bool) -> None:
    exists = run_dir.recipe.exists()
    if exists and not resume:
        raise UserError(
            f"run {run_dir.name} exists already: {run_dir.path}", "continue it with --resume, or give another --name"
        )
    if resume and not exists:
        raise UserError(f"no run to resume at {run_dir.path}", "start it without --resume")


def _prepare(recipe: Recipe, run_dir: RunDir, resume: bool, progress: Progress, stack: ExitStack) -> Job:
    """Check all that can be checked; `stack` then holds the connection to the cluster."""
    from distmed.train.preparation import check_inputs, make_job, write_run_files

    check_inputs(recipe, run_dir, resume=resume)
    stack.enter_context(session.connected())
    session.wait_for_room(recipe.cluster)
    job = make_job(recipe, run_dir, gpu=session.on_gpu(), resume=resume, progress=progress)
    write_run_files(job)
    return job


def _train(job: Job, progress: Progress) -> int:
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    from distmed.checkpoint import folder as folders
    from distmed.train.finish import finish
    from distmed.train.logbook import Logbook

    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    logbook: Any = (
        ray.remote(Logbook)
        .options(num_cpus=0, scheduling_strategy=here)
        .remote(job.recipe, job.run.path, folders.next_attempt(job.checkpoints), _tracking_environment())
    )
    progress.start(job.total_steps)
    started = time.perf_counter()
    try:
        outcome = _watch(job, logbook, progress)
    finally:
        progress.stop()
    if outcome.fatal:
        ray.get(logbook.finish.remote({}))
        if outcome.fatal["reason"] == "user":
            raise UserError(outcome.fatal["message"], outcome.fatal["hint"])
        progress.note(outcome.fatal["message"])
        progress.note(outcome.fatal["hint"])
        return FAILED
    if outcome.result is None or outcome.result["state"]["step"] == 0:
        ray.get(logbook.finish.remote({}))
        progress.note(f"the run failed: {_last_line(outcome.error)}; all output lies in {job.run.log}")
        return FAILED
    summary = finish(
        job, outcome.result, wall_s=time.perf_counter() - started, restarts=outcome.restarts, progress=progress
    )
    ray.get(logbook.finish.remote(summary))
    return INTERRUPTED if outcome.result["stopped"] else DONE


def _tracking_environment() -> dict[str, str]:
    """A cluster that was there before knows nothing of this shell's W&B settings."""
    return {name: value for name, value in os.environ.items() if name.startswith("WANDB_")}


def _last_line(error: BaseException | None) -> str:
    """Ray's errors carry the worker's traceback, whose end says what happened."""
    lines = str(error or "").strip().splitlines()
    return lines[-1] if lines else "no step was trained"


class _Outcome:
    """What the workers said until they ended."""

    def __init__(self) -> None:
        self.result: dict[str, Any] | None = None
        self.fatal: dict[str, Any] | None = None
        self.error: BaseException | None = None
        self.restarts = 0
        self._ends_since: float | None = None
        self._waits_said = False

    def overdue(self, limit_s: float, progress: Progress) -> bool:
        """A worker that met a mistake of the user has ended, but others may wait for it in a collective."""
        if self._ends_since is None:
            return False
        waited = time.monotonic() - self._ends_since
        if waited > SAY_WAIT_AFTER_S and not self._waits_said:
            self._waits_said = True
            progress.note(f"a worker gave up; the others have {limit_s:g} s to end")
        return waited > limit_s

    def take(self, event: dict[str, Any], progress: Progress) -> None:
        match event["kind"]:
            case "step":
                progress.step(event["step"], event["metrics"], shown=event["shown"])
            case "evaluation":
                progress.evaluation(event["step"], event["metrics"])
            case "note":
                progress.note(event["text"])
            case "restart":
                self.restarts += 1
                progress.note(event["text"])
            case "fatal":
                self.fatal = self.fatal or event
                if event["reason"] == "user" and self._ends_since is None:
                    self._ends_since = time.monotonic()
            case "done":
                self.result = event["result"]


def _watch(job: Job, logbook: Any, progress: Progress) -> _Outcome:
    """Run the trainer in a thread of its own, so that this one is free for signals and for showing the news."""
    import ray

    from distmed.train import workers

    outcome = _Outcome()

    def fit() -> None:
        try:
            workers.fit(job, logbook)
        except Exception as error:
            outcome.error = error

    thread = threading.Thread(target=fit, name="trainer", daemon=True)
    with _stop_on_signal(logbook, progress):
        thread.start()
        while thread.is_alive() and not outcome.overdue(job.recipe.cluster.stall_timeout_s, progress):
            thread.join(0.25)
            for event in ray.get(logbook.news.remote()):
                outcome.take(event, progress)
    return outcome


@contextmanager
def _stop_on_signal(logbook: Any, progress: Progress) -> Iterator[None]:
    asked = False

    def handle(number: int, frame: FrameType | None) -> None:
        nonlocal asked
        if asked:
            raise KeyboardInterrupt
        asked = True
        logbook.ask_to_stop.remote()
        progress.note("stopping: this step is finished and saved first; once more ends at once, without saving")

    before = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
