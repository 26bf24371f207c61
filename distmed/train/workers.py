"""The workers as Ray Train sees them: what each needs, where checkpoints lie, and the TorchTrainer over them."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ray.train.torch import TorchTrainer
from ray.train.v2._internal.callbacks import DatasetsCallback
from ray.train.v2._internal.callbacks.placement_group_callback import PlacementGroupCleanerCallback
from ray.train.v2._internal.execution.callback import ControllerCallback
from ray.train.v2._internal.execution.checkpoint.checkpoint_manager import CheckpointManager

from distmed.rundir import RunDir
from distmed.session import on_gpu

if TYPE_CHECKING:
    from ray.train import Result

    from distmed.train.job import Job


FOR_EVER_S = 10.0**9
RAY_TRAIN = {
    # How soon it asks workers for a sign of life, and how long it believes in hosts that are gone (its own: 2 and 60 s).
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "1",
    "RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S": "12",
    # The driver looks itself at hosts that are to be taken away: one process less at each start of the workers.
    "RAY_TRAIN_ENABLE_PREEMPTION_WATCHER": "0",
}


class Trainer(TorchTrainer):
    """Ray's without its data sets, since cases come from our own stream: one process less at each start of the workers, and no
    pass over all of them to hand out the settings of Ray Data.

    Nor has a run by itself a process that watches the controller, to give back its places should it die: they go with the
    driver, which then ends, too. In a search they would stay.
    """

    def __init__(self, *arguments: Any, in_search: bool, **options: Any) -> None:
        self._spared = (DatasetsCallback,) if in_search else (DatasetsCallback, PlacementGroupCleanerCallback)
        super().__init__(*arguments, **options)

    def _create_default_callbacks(self) -> list[Any]:
        callbacks = super()._create_default_callbacks()  # type: ignore[misc]
        return [callback for callback in callbacks if not isinstance(callback, self._spared)]


class RemembersNothing(ControllerCallback):
    """Ray's own list of checkpoints is not written: which there are, the folder itself says. Ray writes it once and does not
    try again, so that a storage that fails for a moment would end the run.
    """

    def after_controller_start(self, train_run_context: Any) -> None:
        CheckpointManager._write_state_to_storage = lambda self: None  # type: ignore[method-assign]


def fit(
    job: Job,
    logbook: Any,
    callbacks: Sequence[Any],
    *,
    failures: int,
    preemptions: int,
    trials_per_host: int | None,
) -> Result:
    """Run `worker.py` on every worker until it ends; raises Ray's TrainingFailedError when restarts are used up.

    `callbacks` are told by Ray Train's controller what it does. `failures` and `preemptions`: what the run
    has met so far, which counts against the recipe's limits. `trials_per_host`: how many trials of a search share a host, if
    this is one.
    """
    from ray.train import FailureConfig, RunConfig, ScalingConfig
    from ray.train.torch import TorchConfig

    from distmed.train.failures import Failures, show_hosts_to_policy
    from distmed.train.worker import run_worker

    for name, value in RAY_TRAIN.items():
        os.environ.setdefault(name, value)
    _forget_checkpoints(job.checkpoints)
    show_hosts_to_policy()
    cluster = job.recipe.cluster
    gpu = on_gpu()
    storage = Path(job.checkpoints) if "://" not in job.checkpoints else None
    trainer = Trainer(
        run_worker,
        in_search=trials_per_host is not None,
        train_loop_config={"job": job, "logbook": logbook},
        # mypy sees the classes of Ray Train v1; v2, which is what runs, has these fields.
        scaling_config=ScalingConfig(  # type: ignore[call-arg]
            num_workers=cluster.num_workers,  # type: ignore[arg-type]
            use_gpu=gpu,
            resources_per_worker=_resources(gpu),
            # Without GPUs the cores of a host are shared by its workers: few on each host is faster than many on one.
            placement_strategy="PACK" if gpu else "SPREAD",
            # Ray would stop the workers without a checkpoint to have more of them; the driver asks for one first.
            elastic_resize_monitor_interval_s=FOR_EVER_S,
        ),
        torch_config=TorchConfig(backend="nccl" if gpu else "gloo", timeout_s=int(cluster.collective_timeout_s)),
        run_config=RunConfig(
            name=storage.name if storage else job.recipe.name,
            storage_path=str(storage.parent) if storage else job.checkpoints.rpartition("/")[0],
            failure_config=FailureConfig(  # type: ignore[call-arg]
                max_failures=left(cluster.max_failures, failures),
                max_preemption_failures=left(cluster.max_preemptions, preemptions),
            ),
            worker_runtime_env={"env_vars": _environment(job.run, trials_per_host or 1, gpu=gpu)},
            callbacks=[Failures(logbook), RemembersNothing(), *callbacks],  # type: ignore[list-item]
        ),
    )
    return trainer.fit()


def left(allowed: int, met: int) -> int:
    """How many more Ray may take; -1: no limit."""
    return allowed if allowed < 0 else max(0, allowed - met)


def _forget_checkpoints(root: str) -> None:
    """Earlier versions let Ray write its list, and Ray refuses a folder in which a checkpoint of the list is gone."""
    from ray.train.v2._internal.constants import CHECKPOINT_MANAGER_SNAPSHOT_FILENAME

    from distmed.checkpoint.storage import Storage

    (Storage.at(root) / CHECKPOINT_MANAGER_SNAPSHOT_FILENAME).remove()


def _resources(gpu: bool) -> dict[str, float]:
    return {"GPU": 1, "CPU": 1} if gpu else {"CPU": 1}


def _environment(run: RunDir, trials_per_host: int, *, gpu: bool) -> dict[str, Any]:
    variables = {
        "TOKENIZERS_PARALLELISM": "false",
        "RAY_CHDIR_TO_TRIAL_DIR": "0",
        "DISTMED_TRIALS_AT_ONCE": str(trials_per_host),
    }
    if gpu:
        run.nccl.mkdir(exist_ok=True)
        # NCCL's flight recorder: what each rank was waiting for goes to a file when a collective times out.
        recorder = {"TORCH_FR_BUFFER_SIZE": "2000", "TORCH_NCCL_DUMP_ON_TIMEOUT": "1"}
        return {**variables, **recorder, "TORCH_FR_DUMP_TEMP_FILE": f"{run.nccl}/rank_"}
    return {**variables, "DS_ACCELERATOR": "cpu", "CUDA_VISIBLE_DEVICES": ""}
