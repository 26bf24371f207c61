"""The driver of `distmed train`: prepares a job, has Ray run it, shows what happens, and finishes what comes out.

Signals end here (signals.py): the first asks the workers to finish their step and save.
"""

from __future__ import annotations

import os
import time
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

from distmed import session, shipped
from distmed.chatter import Chatter
from distmed.errors import DONE, FAILED, INTERRUPTED, UserError, last_line
from distmed.recipe import Recipe
from distmed.refusals import refusal
from distmed.rundir import RunDir
from distmed.signals import StopSignals
from distmed.train.beginning import Beginning
from distmed.train.lock import RunLock, held, is_alive, read_owner
from distmed.train.progress import Progress
from distmed.train.watch import Watch

if TYPE_CHECKING:
    from distmed.train.job import Job


def run_folder(name: str) -> RunDir:
    """Below DISTMED_RUNS, or in `runs` where distmed is started; a Ray job starts in a folder that goes with it."""
    return RunDir(Path(os.environ.get("DISTMED_RUNS", "runs")) / name)


def unnamed_recipe(overrides: list[str], *, resume: bool) -> Path:
    """Where no recipe is named: that of the run to resume, or else the built-in smoke run."""
    names = ["smoke", *(word.removeprefix("name=") for word in overrides if word.startswith("name="))]
    earlier = run_folder(names[-1]).recipe
    return earlier if resume and earlier.is_file() else shipped.folder("recipes") / "smoke.yaml"


def run(recipe: Recipe, *, resume: bool = False, verbose: bool = False, force: bool = False) -> int:
    """Train as the recipe says and return the exit status: 0 done, 1 failed, 130 interrupted with a checkpoint saved.

    Raises UserError for what the user can mend. If that is found before the workers start, nothing of the run is left but what
    took long to count.
    """
    run_dir = run_folder(recipe.name)
    owner = read_owner(run_dir.lock)
    if owner and is_alive(owner, run_dir.lock):
        raise held(run_dir.name, owner)
    _check_run(run_dir, resume)
    try:
        return _run(recipe, run_dir, resume=resume, verbose=verbose, force=force)
    except Exception as error:
        refused = refusal(error, run_dir.path)
        if refused is None:
            raise
        raise refused from error


def _run(recipe: Recipe, run_dir: RunDir, *, resume: bool, verbose: bool, force: bool) -> int:
    beginning = Beginning(run_dir)
    try:
        run_dir.path.mkdir(parents=True, exist_ok=True)
    except (NotADirectoryError, FileExistsError) as error:
        raise UserError(f"cannot write to {run_dir.path}: {error.strerror}", "start in another folder") from error
    with StopSignals() as signals, ExitStack() as stack:
        lock = stack.enter_context(RunLock(run_dir.lock, run_dir.name))
        chatter = stack.enter_context(Chatter(run_dir.log, show=verbose))
        signals.hang_up = chatter.hang_up
        progress = Progress(chatter.terminal)
        if lock.note:
            progress.note(lock.note)
        try:
            job = _prepare(recipe, run_dir, resume, progress, stack, signals)
            if not force:
                _foresee(job, progress)
            _write_down(job, resume, progress)
        except BaseException:
            beginning.undo(lock, progress)
            raise
        return _train(job, progress, signals, lock)


def _check_run(run_dir: RunDir, resume: bool) -> None:
    exists = run_dir.recipe.exists()
    if exists and not resume:
        raise UserError(
            f"run {run_dir.name} exists already: {run_dir.path}", "continue it with --resume, or give another --name"
        )
    if resume and not exists:
        raise UserError(f"no run to resume at {run_dir.path}", "start it without --resume")


def _prepare(
    recipe: Recipe, run_dir: RunDir, resume: bool, progress: Progress, stack: ExitStack, signals: StopSignals
) -> Job:
    """Check all that can be checked; `stack` then holds the connection to the cluster."""
    from distmed.checkpoint.folder import checkpoint_root
    from distmed.train.fit import check_disk, check_hosts
    from distmed.train.preparation import check_inputs, make_job
    from distmed.train.resume import wait_for_storage

    checkpoints = checkpoint_root(recipe, run_dir)
    if resume:
        wait_for_storage(checkpoints, recipe.checkpoint.retry_s, progress.note)
    check_inputs(recipe, run_dir, resume=resume)
    stack.enter_context(session.connected())
    signals.take()
    session.wait_for_room(recipe.cluster)
    check_hosts(checkpoints, run_dir.path)
    job = make_job(recipe, run_dir, gpu=session.on_gpu(), resume=resume, progress=progress)
    check_disk(job)
    return job


def _write_down(job: Job, resume: bool, progress: Progress) -> None:
    """The recipe of a run that begins or goes on, what changed in it, and who is in training and in evaluation."""
    from distmed.stream.overlap import overlap
    from distmed.train.preparation import write_run_files
    from distmed.train.resume import changes

    if resume:
        notes = changes(job.run.recipe.read_text(encoding="utf-8"), job.recipe)
    else:
        notes = overlap(job.train_plan, job.eval_plan) if job.eval_plan is not None else []
    for note in notes:
        progress.note(note)
    write_run_files(job)


def _foresee(job: Job, progress: Progress) -> None:
    """Refuse a run that has no hope of fitting, and say so where it is tight."""
    from distmed.train.foresight import refuse_hopeless

    tight = refuse_hopeless(job)
    if tight:
        progress.note(tight)


def _train(job: Job, progress: Progress, signals: StopSignals, lock: RunLock) -> int:
    import ray

    from distmed.train.finish import finish
    from distmed.train.logbook import start_logbook
    from distmed.train.tracking import wandb_environment

    logbook = start_logbook(job.recipe, job.run, wandb_environment())
    progress.start(job.total_steps)
    started = time.perf_counter()
    try:
        watch = _follow(job, logbook, progress, signals, lock)
    finally:
        progress.stop()
    if watch.fatal:
        ray.get(logbook.finish.remote({}))
        if watch.fatal["reason"] in ("user", "memory"):
            raise UserError(watch.fatal["message"], watch.fatal["hint"])
        progress.note(watch.fatal["message"])
        progress.note(watch.fatal["hint"])
        return FAILED
    if watch.result is None and watch.error is None and signals.asked:
        ray.get(logbook.finish.remote({}))
        progress.note("stopped while there were no workers: what was saved stays; go on with --resume")
        return INTERRUPTED
    if watch.result is None or watch.result["state"]["step"] == 0:
        ray.get(logbook.finish.remote({}))
        refused = watch.error and refusal(watch.error, job.checkpoints)
        if refused:
            raise refused
        why = last_line(watch.error, "no step was trained")
        progress.note(f"the run failed: {why}; all output lies in {job.run.log}")
        return FAILED
    summary = finish(
        job, watch.result, wall_s=time.perf_counter() - started, restarts=watch.restarts, progress=progress
    )
    ray.get(logbook.finish.remote(summary))
    for event in ray.get(logbook.news.remote()):
        watch.take(event)
    return INTERRUPTED if watch.result["stopped"] else DONE


def _follow(job: Job, logbook: Any, progress: Progress, signals: StopSignals, lock: RunLock) -> Watch:
    """Have Ray train, with this thread free for signals and for showing the news, until the workers end or are given up."""
    import ray

    from distmed.train.training import LOOK_EVERY_S, Training

    watch = Watch(job.recipe.cluster, logbook, progress)

    def ask_to_stop() -> None:
        logbook.ask_to_stop.remote()
        if watch.waits:
            return
        progress.note("stopping: this step is finished and saved first; Ctrl-C once more ends at once, without saving")

    def take_news() -> None:
        for event in ray.get(logbook.news.remote()):
            watch.take(event)

    signals.call(ask_to_stop)
    try:
        while True:
            training = Training(job, logbook, failures=watch.failures, preemptions=watch.preemptions)
            try:
                while training.is_alive() and not watch.overdue() and not (signals.asked and watch.waits):
                    training.wait(LOOK_EVERY_S)
                    if lock.lost:
                        raise lock.taken()
                    take_news()
                    watch.look()
                watch.error = training.error
            finally:
                training.end()
            take_news()
            if watch.fatal or not watch.goes_on or signals.asked:
                return watch
            watch.begin()
    finally:
        signals.call(None)
