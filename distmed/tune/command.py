"""`distmed tune`: check the space, make room, let Ray Tune run the trials, choose the winner, write what was found.

A recipe with a `tune:` block flows in; `runs/NAME/` with the record, the table, `best.yaml`, `best/` and the report flows out.
"""

from __future__ import annotations

import os
import shutil
import time
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

from distmed import session
from distmed.background import Background
from distmed.chatter import Chatter
from distmed.errors import DONE, FAILED, INTERRUPTED, UserError
from distmed.recipe import Cluster, Recipe
from distmed.rundir import RunDir
from distmed.signals import StopSignals
from distmed.train.beginning import Beginning
from distmed.train.driver import run_folder
from distmed.train.lock import RunLock
from distmed.train.progress import Progress
from distmed.tune.checks import check_resume, check_search, metric_of, mode_of
from distmed.tune.display import Display
from distmed.tune.room import Room
from distmed.tune.space import Space, tune_of

if TYPE_CHECKING:
    from distmed.train.job import Job
    from distmed.tune.search import Search

LOOK_EVERY_S = 0.5
# Ray Tune gives the workers of all trials back, some seconds each.
LEAVE_S = 60.0
RECORD = "search.jsonl"
STOPPING = "stopping: running trials finish their step and save; Ctrl-C once more ends at once"
# Ray Tune's own loggers, snapshots and checks; the record and the trials' run directories take their place.
RAY_TUNE = {
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_DISABLE_STRICT_METRIC_CHECKING": "1",
    "TUNE_GLOBAL_CHECKPOINT_S": "1000000000",
    "TUNE_FORCE_TRIAL_CLEANUP_S": "60",
    "TUNE_WARN_EXCESSIVE_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S": "0",
    "RAY_AIR_NEW_OUTPUT": "0",
    "RAY_CHDIR_TO_TRIAL_DIR": "0",
}


def run(recipe: Recipe, *, resume: bool = False, verbose: bool = False) -> int:
    """Search as the recipe says and return the exit status: 0 done, 1 no trial gave anything, 130 interrupted.

    Raises UserError for what the user can mend; what can be found before a cluster is asked for leaves nothing behind.
    """
    tune = tune_of(recipe)
    run_dir = run_folder(recipe.name)
    space = Space(recipe)
    metric = metric_of(recipe, tune)
    mode = mode_of(metric, tune)
    check_search(space, tune, run_dir)
    check_resume(recipe, run_dir, resume=resume)
    beginning = Beginning(run_dir)
    try:
        run_dir.path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"cannot write to {run_dir.path}: {error.strerror}", "start in another folder") from error
    with StopSignals() as signals, Chatter(run_dir.log, show=verbose) as chatter, ExitStack() as stack:
        signals.hang_up = chatter.hang_up
        progress = Progress(chatter.terminal)
        lock = stack.enter_context(RunLock(run_dir.lock, run_dir.name))
        if lock.note:
            progress.note(lock.note)
        try:
            search, job = _prepare(space, run_dir, metric, mode, progress, stack, signals)
        except BaseException:
            beginning.undo(lock, progress)
            raise
        return _run(search, job, Display(chatter.terminal, search, job.total_steps), progress, signals, lock)


def _prepare(
    space: Space, run_dir: RunDir, metric: str, mode: str, progress: Progress, stack: ExitStack, signals: StopSignals
) -> tuple[Search, Job]:
    """Read the data and count the tokens once, for all trials; the job is that of the recipe's own setting."""
    from distmed.checkpoint.folder import checkpoint_root
    from distmed.train.fit import check_hosts
    from distmed.train.preparation import make_job
    from distmed.train.tracking import wandb_environment
    from distmed.tune.record import Record
    from distmed.tune.search import Search
    from distmed.tune.trial import Order, Plan, trial_recipe

    recipe, tune = space.recipe, tune_of(space.recipe)
    os.environ.update(RAY_TUNE)
    stack.enter_context(session.connected())
    signals.take()
    # A trial has a fixed size: the most workers of a range.
    cluster = recipe.cluster.model_copy(update={"num_workers": recipe.cluster.most})
    fixed = recipe.model_copy(update={"cluster": cluster})
    at_once, hosts = _room(fixed.cluster, tune.concurrency)
    check_hosts(checkpoint_root(recipe, run_dir), run_dir.path)
    plan = Plan(fixed, run_dir, metric, at_once, -(-at_once // hosts), wandb_environment())
    own = trial_recipe(plan, space, Order(0, 0, 0, {}))
    job = make_job(own, run_dir, gpu=session.on_gpu(), resume=False, progress=progress)
    recipe.write(run_dir.recipe)
    first = min(1.0, job.eval_every / job.total_steps)
    search = Search(plan, space, tune, Record(run_dir / RECORD), mode=mode, first_progress=first)
    progress.note(
        f"{search.proposals.wanted} settings, {at_once} trial{'s' if at_once > 1 else ''} at once, "
        f"{search.workers} worker{'s' if search.workers > 1 else ''} each; sought: {metric} ({mode})"
    )
    for note in search.proposals.notes:
        progress.note(note)
    return search, job


def _room(cluster: Cluster, wanted: int | None) -> tuple[int, int]:
    """How many trials fit at once, and on how many hosts; raises UserError where not even one does."""
    session.wait_for_room(cluster)
    places = session.places()
    fit = max(1, sum(places) // cluster.most)
    return min(fit, wanted or fit), max(1, sum(place > 0 for place in places))


def _run(search: Search, job: Job, display: Display, progress: Progress, signals: StopSignals, lock: RunLock) -> int:
    error = _watch(search, display, signals, lock)
    if error is not None and not search.closed:
        raise error
    from distmed.tune.table import write_tables

    write_tables(search)
    unfinished = [trial for trial in search.trials if not trial.ended]
    if signals.asked:
        display.note(f"{len(unfinished)} trials saved; go on with --resume")
        return INTERRUPTED
    if search.refused is not None:
        raise search.refused
    if search.given_up is not None:
        for line in search.given_up:
            display.note(line)
        return FAILED
    if not any(trial.best(search.mode) for trial in search.trials):
        return _nothing(search, display)
    from distmed.tune.selection import conclude

    conclude(search, job, progress)
    return DONE


def _nothing(search: Search, display: Display) -> int:
    if search.closed:
        raise UserError(
            f"{search.closed} before the first evaluation, after {search.seconds():.0f} s of trials",
            "raise tune.time_s or tune.accelerator_hours, or lower train.eval_every",
        )
    causes = [trial.cause for trial in search.trials if trial.cause]
    display.note(f"no trial gave a value; the last cause: {causes[-1] if causes else 'none told'}")
    return FAILED


def _watch(search: Search, display: Display, signals: StopSignals, lock: RunLock) -> Exception | None:
    """Run Ray Tune in a thread of its own, so that this one is free for signals, budgets and the table."""
    if search.proposals.finished or _spent(search, 0.0):
        return None
    # A signal may come in the middle of a line, so its handler writes none.
    signals.call(lambda: search.close("the search was stopped"))
    told, room = False, Room(search)
    began = time.monotonic()
    fit = Background("search", lambda: _fit(search))
    try:
        with display:
            while fit.is_alive():
                fit.wait(LOOK_EVERY_S)
                if lock.lost:
                    raise lock.taken()
                if signals.asked:
                    if not told:
                        told = True
                        display.note(STOPPING)
                    search.tell_running("ask_to_stop")
                elif _spent(search, time.monotonic() - began):
                    search.tell_running("abandon", "the budget is used up")
                elif search.refused is not None or search.given_up is not None:
                    search.tell_running("ask_to_stop")
                else:
                    room.look()
                display.show()
    finally:
        search.left = True
        fit.wait(LEAVE_S)
        signals.call(None)
    return fit.error


def _spent(search: Search, seconds: float) -> bool:
    tune = search.tune
    if tune.time_s is not None and seconds >= tune.time_s:
        search.close(f"tune.time_s={tune.time_s:g} ended")
        return True
    if tune.accelerator_hours is not None and search.accelerator_hours() >= tune.accelerator_hours:
        search.close(f"tune.accelerator_hours={tune.accelerator_hours:g} ended")
        return True
    return False


def _fit(search: Search) -> Any:
    import ray
    from ray import tune as ray_tune

    from distmed.tune.runner import TrialRunner
    from distmed.tune.search import Asks, Tells

    here = f"node:{ray.util.get_node_ip_address()}"
    runner: Any = ray_tune.with_parameters(TrialRunner, plan=search.plan)
    # The trial's own process lives on this host and takes nothing from the workers, which Ray Train places all at once.
    runner = ray_tune.with_resources(runner, ray_tune.PlacementGroupFactory([{"CPU": 0, here: 0.0001}]))
    tuner = ray_tune.Tuner(
        runner,
        tune_config=ray_tune.TuneConfig(
            search_alg=Asks(search), scheduler=search.scheduler, num_samples=-1, reuse_actors=True
        ),
        run_config=ray_tune.RunConfig(
            name="ray",
            storage_path=str(search.plan.run.path),
            failure_config=ray_tune.FailureConfig(max_failures=search.tune.retries),
            # The trial's own run directory holds its checkpoints.
            checkpoint_config=ray_tune.CheckpointConfig(checkpoint_frequency=0, checkpoint_at_end=False),
            callbacks=[Tells(search)],
            verbose=0,
        ),
    )
    try:
        return tuner.fit()
    finally:
        shutil.rmtree(search.plan.run / "ray", ignore_errors=True)
