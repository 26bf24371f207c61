"""The workers as Ray Train sees them: what each needs, where checkpoints lie, and the TorchTrainer over them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from distmed.session import on_gpu

if TYPE_CHECKING:
    from ray.train import Result

    from distmed.train.job import Job


def fit(
    job: Job, logbook: Any, callbacks: Sequence[Any] = (), environment: Mapping[str, str] = MappingProxyType({})
) -> Result:
    """Run `worker.py` on every worker until it ends; raises Ray's TrainingFailedError when restarts are used up.

    `callbacks` are told by Ray Train's controller what it does; `environment` is that of the workers, too.
    """
    from ray.train import FailureConfig, RunConfig, ScalingConfig
    from ray.train.torch import TorchConfig, TorchTrainer

    from distmed.train.worker import run_worker

    _forget_checkpoints(job.checkpoints)
    cluster = job.recipe.cluster
    gpu = on_gpu()
    storage = Path(job.checkpoints) if "://" not in job.checkpoints else None
    trainer = TorchTrainer(
        run_worker,
        train_loop_config={"job": job, "logbook": logbook},
        scaling_config=ScalingConfig(
            num_workers=cluster.num_workers, use_gpu=gpu, resources_per_worker=_resources(gpu)
        ),
        torch_config=TorchConfig(backend="nccl" if gpu else "gloo", timeout_s=int(cluster.collective_timeout_s)),
        run_config=RunConfig(
            name=storage.name if storage else job.recipe.name,
            storage_path=str(storage.parent) if storage else job.checkpoints.rpartition("/")[0],
            failure_config=FailureConfig(max_failures=cluster.max_failures),
            # mypy sees the class of Ray Train v1; v2, which is what runs, has this field.
            worker_runtime_env={"env_vars": {**_environment(gpu), **environment}},  # type: ignore[call-arg]
            callbacks=list(callbacks),
        ),
    )
    return trainer.fit()


def _forget_checkpoints(root: str) -> None:
    """Ray refuses a folder in which a checkpoint that it remembers is gone; which there are, the folder itself says."""
    from ray.train.v2._internal.constants import CHECKPOINT_MANAGER_SNAPSHOT_FILENAME

    from distmed.checkpoint.storage import Storage

    (Storage.at(root) / CHECKPOINT_MANAGER_SNAPSHOT_FILENAME).remove()


def _resources(gpu: bool) -> dict[str, float]:
    return {"GPU": 1, "CPU": 1} if gpu else {"CPU": 1}


def _environment(gpu: bool) -> dict[str, Any]:
    variables = {"TOKENIZERS_PARALLELISM": "false", "RAY_CHDIR_TO_TRIAL_DIR": "0"}
    return variables if gpu else {**variables, "DS_ACCELERATOR": "cpu", "CUDA_VISIBLE_DEVICES": ""}
