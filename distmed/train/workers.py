"""The workers as Ray sees them: connect to a cluster or start a local one, see that it has room, start the TorchTrainer."""

from __future__ import annotations

import contextlib
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from distmed.errors import UserError
from distmed.recipe import Cluster

if TYPE_CHECKING:
    from ray.train import Result

    from distmed.train.job import Job

LOCAL_OBJECT_STORE_BYTES = 256 * 2**20
CONNECT_TIMEOUT_S = 10


@contextmanager
def connected() -> Iterator[None]:
    """Join the cluster that RAY_ADDRESS or a running Ray job names, else start a local one; leave it, or end it, after.

    Leaving is explicit, so that what Ray still has to say goes where the rest of its output went.
    """
    # Workers stay in the folder the run was started from, so that relative paths of a recipe mean the same everywhere.
    os.environ.setdefault("RAY_CHDIR_TO_TRIAL_DIR", "0")
    os.environ.setdefault("RAY_TRAIN_ENABLE_STATE_TRACKING", "0")
    import ray

    if ray.is_initialized():
        yield
        return
    _connect()
    try:
        yield
    finally:
        ray.shutdown()


def _connect() -> None:
    import ray

    address = os.environ.get("RAY_ADDRESS")
    if not address:
        ray.init(
            address="local", include_dashboard=False, object_store_memory=LOCAL_OBJECT_STORE_BYTES, log_to_driver=True
        )
        return
    silent = UserError(
        f"no Ray cluster answers at RAY_ADDRESS={address}", "start it, mend the address, or unset RAY_ADDRESS"
    )
    if not _answers(address):
        raise silent
    try:
        ray.init(log_to_driver=True)
    except ConnectionError as error:
        raise silent from error


def _answers(address: str) -> bool:
    """Whether somebody listens at host:port, which Ray itself would find out in minutes; True where it says no port."""
    from ray.util import get_node_ip_address

    host, _, port = address.rpartition("/")[2].rpartition(":")
    host = host.strip("[]")
    if not host or not port.isdigit():
        return True
    for where in (host, get_node_ip_address()) if host in ("localhost", "127.0.0.1", "::1") else (host,):
        with contextlib.suppress(OSError), socket.create_connection((where, int(port)), timeout=CONNECT_TIMEOUT_S):
            return True
    return False


def on_gpu() -> bool:
    """Whether the cluster has GPUs; then each worker gets one."""
    import ray

    return ray.cluster_resources().get("GPU", 0) > 0


def wait_for_room(cluster: Cluster) -> None:
    """Wait at most `cluster.wait_s` until as many workers fit as the recipe asks for, else raise UserError."""
    import ray

    kind = "GPU" if on_gpu() else "CPU"
    deadline = time.monotonic() + cluster.wait_s
    while (there := int(ray.cluster_resources().get(kind, 0))) < cluster.num_workers:
        if time.monotonic() >= deadline:
            raise UserError(
                f"{cluster.num_workers} workers want a {kind} each, the cluster has {there} (waited {cluster.wait_s:g} s)",
                f"lower --num-workers to {max(there, 1)}, add hosts, or raise cluster.wait_s",
            )
        time.sleep(min(1.0, max(0.0, deadline - time.monotonic())))


def fit(job: Job, logbook: Any) -> Result:
    """Run `worker.py` on every worker until it ends; raises Ray's TrainingFailedError when restarts are used up."""
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
            worker_runtime_env={"env_vars": _environment(gpu)},  # type: ignore[call-arg]
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
