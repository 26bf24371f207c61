"""The DeepSpeed engine: built from the model and the recipe, stepped over the micro-batches of one global batch.

The loss is a sum over the targets of the *global* batch divided by their number, so neither accumulation nor the number of
workers changes it. This is one of the few places where deepspeed is imported, and only inside a worker.
"""

from __future__ import annotations

import datetime
import gc
import math
import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
import torch.distributed as dist
from torch import Tensor

from distmed.model.diagnoser import Diagnoser
from distmed.model.groups import parameter_groups
from distmed.model.loss import training_loss
from distmed.recipe import Recipe
from distmed.train.schedule import lr_factor

if TYPE_CHECKING:
    from deepspeed import DeepSpeedEngine

    from distmed.stream.batch import MicroBatch, Step


@dataclass(frozen=True)
class StepResult:
    """What one optimizer step gave, equal on every worker.

    `bad_case_ids`: those of the micro-batches whose loss is not finite; of all, where only gradients are not.
    """

    loss: float
    lr: float
    grad_norm: float
    stop: bool
    finite: bool
    bad_case_ids: list[str]


def start_process_group(device: torch.device, timeout_s: float) -> None:
    """Hand the process group that Ray Train made to DeepSpeed, with an explicit timeout."""
    import deepspeed
    from deepspeed.runtime import compiler

    if device.type == "cpu":
        # DeepSpeed would compile a shared-memory all-reduce here, which inference uses and training never calls. If that is
        # killed it leaves a lock behind, for which every later run would wait without end.
        deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
    # It also looks whether the optimizer is its Muon, whose functions load all of torch's compiler to be decorated: 1 s.
    compiler.compile = lambda: compiler.dummy_decorator
    deepspeed.init_distributed(
        dist_backend="nccl" if device.type == "cuda" else "gloo",
        timeout=datetime.timedelta(seconds=timeout_s),
        verbose=False,
    )
    # Where a host's number of workers is not told, DeepSpeed's CPU accelerator runs `numactl` at each reduction to count them.
    os.environ["LOCAL_SIZE"] = os.environ.get("LOCAL_WORLD_SIZE", "1")


def build_engine(model: Diagnoser, recipe: Recipe, config: dict[str, Any]) -> DeepSpeedEngine:
    """Wrap the model: ZeRO partitions, mixed precision, AdamW with the recipe's parameter groups."""
    import deepspeed

    groups = parameter_groups(model, recipe.optimizer)
    settings: dict[str, Any] = {
        "lr": recipe.optimizer.lr,
        "betas": recipe.optimizer.betas,
        "eps": recipe.optimizer.eps,
        "weight_decay": recipe.optimizer.weight_decay,
    }
    optimizer: torch.optim.Optimizer
    if config["zero_optimization"].get("offload_optimizer", {}).get("device", "none") != "none":
        optimizer = deepspeed.ops.adam.DeepSpeedCPUAdam(groups, **settings)
    else:
        optimizer = torch.optim.AdamW(groups, **settings, fused=True)
    for group in optimizer.param_groups:
        group["peak_lr"] = group["lr"]
    engine, *_ = deepspeed.initialize(model=model, optimizer=optimizer, config=config)
    timeout = datetime.timedelta(seconds=recipe.cluster.collective_timeout_s)
    for process_group in dist.distributed_c10d._world.pg_map:
        # DeepSpeed's own have torch's 10 minutes on GPUs, whatever the recipe says.
        dist.distributed_c10d._set_pg_timeout(timeout, process_group)
    # What is alive now stays: the garbage collector need not walk it at each of its rounds.
    gc.collect()
    gc.freeze()
    return engine


def seed_step(seed: int, step: int, rank: int) -> None:
    """Dropout of a step follows from seed, step and rank alone, so that a resumed run draws what the straight one drew."""
    torch.manual_seed((seed * 1_000_003 + step) * 65_537 + rank)


def train_step(
    engine: DeepSpeedEngine,
    step: Step,
    number: int,
    total_steps: int,
    recipe: Recipe,
    log_prior_K: Tensor | None,
    stop_asked: Callable[[], bool],
) -> StepResult:
    """Forward and backward over this worker's micro-batches, then one optimizer step.

    DeepSpeed averages gradients over the workers, so the loss is multiplied by their number; a masked micro-batch runs
    both passes with weight 0, because under ZeRO-3 every worker must gather the same parameters equally often. `stop_asked` is
    called once the passes are done: a wish that came meanwhile is for this step.
    """
    factor = lr_factor(recipe.optimizer, number, total_steps)
    for group in engine.optimizer.param_groups:
        group["lr"] = group["peak_lr"] * factor
    world_size = dist.get_world_size()
    device = engine.device
    seed_step(recipe.train.seed, number, dist.get_rank())
    engine.train()
    losses: list[Tensor] = []
    for batch in step.micro_batches:
        batch_on_device = batch.to(device)
        loss = training_loss(engine, batch_on_device, recipe.train, log_prior_K)
        loss = loss * 0.0 if batch.masked else loss
        engine.backward(loss * (world_size / step.denominator), scale_wrt_gas=False)
        engine.step()
        losses.append(loss.detach().float())
    losses_M = torch.stack(losses)
    shared = torch.stack(
        [losses_M.sum(), (~torch.isfinite(losses_M)).sum().float(), torch.tensor(float(stop_asked()), device=device)]
    )
    dist.all_reduce(shared)
    total, bad, stop = shared.tolist()
    grad_norm = engine.get_global_grad_norm()
    # DeepSpeed leaves out a step whose gradients are not finite, and says nothing.
    finite = math.isfinite(total) and (grad_norm is None or math.isfinite(grad_norm))
    return StepResult(
        loss=total / step.denominator,
        lr=recipe.optimizer.lr * factor,
        grad_norm=float(grad_norm) if grad_norm is not None else float("nan"),
        stop=stop > 0,
        finite=finite,
        bad_case_ids=[] if finite else _bad_cases(step.micro_batches, losses_M, every=not bad),
    )


def _bad_cases(batches: list[MicroBatch], losses_M: Tensor, *, every: bool) -> list[str]:
    """The cases of `every` micro-batch, or of those whose loss is not finite. A collective: all workers call it."""
    mine = [
        case
        for batch, loss in zip(batches, losses_M, strict=True)
        if not batch.masked and (every or not torch.isfinite(loss))
        for case in batch.case_ids
    ]
    gathered: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(gathered, mine)
    return [case for part in gathered for case in part]


def worker_device() -> torch.device:
    """The device Ray gave to this worker; the cores of a host are shared fairly among its workers."""
    import ray.train.torch

    context = ray.train.get_context()
    os.environ["LOCAL_RANK"] = str(context.get_local_rank())
    # Ray gives a worker with one CPU one thread. On a GPU host, too, there is work for all cores: DeepSpeed's Adam on the CPU.
    at_once = int(os.environ.get("DISTMED_TRIALS_AT_ONCE", "1"))
    torch.set_num_threads(max(1, len(os.sched_getaffinity(0)) // (context.get_local_world_size() * at_once)))
    return ray.train.torch.get_device() if torch.cuda.is_available() else torch.device("cpu")


def workers_per_host() -> int:
    """The most workers whose groups of neighbors in rank lie within one host each; all ranks call it."""
    import ray.train

    sizes: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(sizes, ray.train.get_context().get_local_world_size())
    return math.gcd(*sizes)
