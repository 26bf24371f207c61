"""The loop that each worker runs: plain PyTorch and DeepSpeed, with a handful of calls to Ray.

Read it from top to bottom: device, data, model, resume, steps. Every collective in here is reached by every rank.
"""

from __future__ import annotations

import math
import socket
from typing import Any

import ray
import ray.train
import torch
import torch.distributed as dist

from distmed.checkpoint.storage import StorageError
from distmed.errors import UserError, first_line, one_of
from distmed.model.load import load_model, load_tokenizer
from distmed.model.sequence import Sharing
from distmed.stream.batch import Step
from distmed.stream.report import epochs_by_source
from distmed.stream.stream import Stream
from distmed.stream.weights import log_prior
from distmed.train.changes import recipe_at, set_optimizer
from distmed.train.deepspeed_config import resolve_config
from distmed.train.due import Due
from distmed.train.engine import (
    StepResult,
    build_engine,
    start_process_group,
    train_step,
    worker_device,
    workers_per_host,
)
from distmed.train.evaluation import Evaluator
from distmed.train.hardware import peak_flops
from distmed.train.job import Job
from distmed.train.logbook import StopWish
from distmed.train.meter import Meter
from distmed.train.profile import Profiler
from distmed.train.saver import Saver, restore
from distmed.train.stall import place_of
from distmed.train.state import RunState

LESS_MEMORY = (
    "lower train.micro_batch, set train.activation_checkpointing=true, or take more workers (distmed plan tells what fits); "
    "then --resume"
)


def run_worker(config: dict[str, Any]) -> None:
    """What Ray Train starts: what a restart would only repeat is told to the logbook and ends the run."""
    job: Job = config["job"]
    logbook: Any = config["logbook"]
    ray.get(logbook.worker_starts.remote(place_of(ray.train.get_context().get_world_rank())))
    try:
        train(job, logbook)
    except UserError as error:
        of_storage = isinstance(error, StorageError)
        ray.get(logbook.fatal.remote("user", error.message, error.hint, of_storage))
    except torch.OutOfMemoryError as error:
        context = ray.train.get_context()
        where = f"{socket.gethostname()}, rank {context.get_world_rank()}"
        # Where hosts were lost it is more of them that help, not another recipe.
        kind = "memory" if context.get_world_size() == job.recipe.cluster.most else "memory_of_fewer"
        ray.get(logbook.fatal.remote(kind, f"out of memory on {where}: {first_line(error)}", LESS_MEMORY))


def train(job: Job, logbook: Any) -> None:
    recipe = job.recipe
    context = ray.train.get_context()
    rank, world_size = context.get_world_rank(), context.get_world_size()
    first = rank == 0
    sharers = recipe.cluster.sequence_parallel
    elastic = recipe.cluster.least < recipe.cluster.most

    # ------------------------------------------------------------------ device
    device = worker_device()
    start_process_group(device, recipe.cluster.collective_timeout_s)

    # ------------------------------------------------------------------ data
    tokenizer = load_tokenizer(job.model_folder, trust_remote_code=recipe.model.trust_remote_code)
    stream = Stream(job.train_plan, tokenizer, rank // sharers, world_size // sharers)
    evaluator = Evaluator(job, tokenizer, rank, world_size) if job.eval_plan else None

    # ------------------------------------------------------------------ model
    config = resolve_config(
        recipe,
        world_size=world_size,
        per_host=workers_per_host(),
        bf16=job.bf16,
        hidden_size=job.hidden_size,
        nvme_path=job.run.path / "nvme",
    )
    model = load_model(recipe, job.model_folder, job.labels, job.label_names, config, device)
    if sharers > 1:
        model.sharing = Sharing(model.network, sharers)
    engine = build_engine(model, recipe, config)
    log_prior_K = log_prior(job.train_plan, device) if recipe.train.loss == "logit_adjusted" else None

    # ------------------------------------------------------------------ resume
    state, notes = restore(job, engine, stream, logbook)
    agreed: list[Any] = [None, None]
    if first:
        agreed = ray.get([logbook.attempt_starts.remote(state.step, world_size, notes), logbook.stop_asked.remote()])
    dist.broadcast_object_list(agreed, src=0)
    attempt, stop_at_once = agreed
    saver = Saver(job, engine, attempt, logbook, state.best)
    profiler = Profiler(recipe.train.profile, job.run.profile, rank, device)
    meter = Meter(model, recipe, world_size=world_size, peak_flops=peak_flops(device, bf16=job.bf16))

    # ------------------------------------------------------------------ steps
    due = Due(job, state, stream.total_sequences)
    stop_wish = StopWish(logbook, listens=first)

    def stop_asked() -> bool:
        return stop_wish.seen() or saver.failed is not None

    def evaluate() -> bool:
        assert evaluator is not None
        with meter.paused():
            return evaluator.run(engine, state, logbook, stop_asked)

    # A stop leaves out the evaluation of its step, also one that has begun: a signal gives too little time for it.
    if due.evaluation() and not stop_at_once:
        evaluate()
        stop_at_once = due.evaluation()
        if first and not stop_at_once:
            logbook.log_late.remote(state.step, state.evaluation)

    stop, grows = due.end() or (stop_at_once and state.step > 0), False
    for step in stream.steps(state.k):
        if stop:
            break
        meter.data_arrived()
        if recipe.changes:
            recipe = recipe_at(job.recipe, state.step + 1)
            set_optimizer(engine.optimizer.param_groups, recipe)
        profiler.step_begins(state.step + 1)
        result = train_step(engine, step, state.step + 1, job.total_steps, recipe, log_prior_K, stop_asked)
        profiler.step_done(state.step + 1)
        state.advance(step)
        meter.step_done(step.tokens, step.cases)
        if not result.finite:
            if first:
                ray.get(logbook.fatal.remote("run", *not_finite(state.step, result)))
            return

        improved = evaluate() if due.evaluation() and not result.stop else False
        evaluated = state.evaluated == state.step
        stop = result.stop or due.end() or due.evaluation()

        shown = evaluated or stop or state.step % recipe.train.log_every == 0
        memory = meter.memory(device) if shown else {}
        if first:
            metrics = logged(result, step, state, meter, memory)
            logbook.log.remote(state.step, metrics, state.evaluation if evaluated else {}, shown)

        if improved or stop or due.checkpoint():
            meter.checkpoint_stalled(saver.save(state, stream, needed=improved or stop))
            grows = elastic and not stop and saver.last_step == state.step and stop_wish.grows()
            stop = stop or grows

    # ------------------------------------------------------------------ end
    stream.close()
    if first:
        logbook.steps_end.remote()
    saver.finish()
    if first:
        stopped = not due.end() or due.evaluation()
        ray.get(
            logbook.done.remote(
                {"state": state.to_dict(), "speed": meter.summary(), "stopped": stopped, "grows": grows}
            )
        )


def not_finite(step: int, result: StepResult) -> tuple[str, str]:
    """What to tell of a step whose loss or gradients are not finite, and what to do."""
    what = "gradients" if math.isfinite(result.loss) else "loss"
    return (
        f"the {what} of step {step} {'are' if what == 'gradients' else 'is'} not finite; cases in it: "
        f"{one_of(result.bad_case_ids)}",
        "the last good checkpoint is kept: lower optimizer.lr or look at these cases, then --resume",
    )


def logged(result: StepResult, step: Step, state: RunState, meter: Meter, memory: dict[str, float]) -> dict[str, float]:
    """The metrics of one step. `memory` is empty where they only move the live line."""
    return {
        "train/loss": result.loss,
        "train/lr": result.lr,
        "train/grad_norm": result.grad_norm,
        "train/epoch": step.epoch,
        "train/tokens": state.tokens,
        **epochs_by_source(step.epochs),
        **meter.rates(),
        **memory,
    }
