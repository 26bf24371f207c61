"""Whether a launch fits the cluster it was given: every host sees the same code and the same storage, and the disk holds the
checkpoints to come. All of it takes seconds, and is asked before the first worker starts.

Facts of hosts flow in (`on_every_host`), a UserError that names the host flows out.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import math
import platform
import secrets
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from distmed.errors import UserError, one_of
from distmed.model.weight_files import header, weight_files

if TYPE_CHECKING:
    from distmed.train.job import Job

Answer = TypeVar("Answer")
# A process is started on each host first, and reads its libraries, maybe from a busy share.
ANSWER_S = 300.0
SAME = ("distmed", "torch", "deepspeed", "ray", "transformers", "peft", "safetensors")
BLIND = "cannot read"


def on_every_host(ask: Callable[[], Answer]) -> dict[str, Answer]:
    """`ask` once on each host of the cluster; its answer by address. Raises UserError for a host that does not answer.

    A host that goes away meanwhile is no part of the cluster any more.
    """
    import ray
    from ray.exceptions import NodeDiedError, TaskUnschedulableError, WorkerCrashedError
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    asked: dict[str, Any] = {}
    for node in ray.nodes():
        if node["Alive"]:
            there = NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
            task = ray.remote(ask).options(num_cpus=0, max_retries=0, scheduling_strategy=there)
            asked[node["NodeManagerAddress"]] = task.remote()
    _, waiting = ray.wait(list(asked.values()), num_returns=len(asked), timeout=ANSWER_S)
    late = [host for host, answer in asked.items() if answer in waiting]
    if late:
        raise UserError(
            f"{len(late)} of {len(asked)} hosts did not answer within {ANSWER_S:g} s: {one_of(late)}",
            "look at these hosts, or take them out of the cluster",
        )
    answers = {}
    for host, answer in asked.items():
        with contextlib.suppress(NodeDiedError, TaskUnschedulableError, WorkerCrashedError):
            answers[host] = ray.get(answer)
    return answers


def versions() -> dict[str, str]:
    """Of Python and of what must be the same everywhere, on this host."""
    found = {"python": platform.python_version()}
    for name in SAME:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = "missing"
    return found


def check_hosts(checkpoints: str, run: Path) -> None:
    """Versions and storage, where there is more than one host. Raises UserError with the first that differs."""
    import ray

    from distmed.checkpoint.storage import Storage

    if sum(node["Alive"] for node in ray.nodes()) < 2:
        return
    check_versions(on_every_host(versions))
    check_shared(Storage.at(checkpoints), "checkpoint.storage_path")
    check_shared(Storage.at(run), "the run directory", written=False)


def check_versions(by_host: dict[str, dict[str, str]]) -> None:
    first, expected = next(iter(by_host.items()))
    for host, found in by_host.items():
        for name, version in found.items():
            if version != expected[name]:
                raise UserError(
                    f"{name} is {version} on {host}, {expected[name]} on {first}",
                    "install the same on all hosts, or start them from one container",
                )


def check_shared(folder: Any, what: str, *, written: bool = True) -> None:
    """Write a file here and read it on every host; where workers have `written` to it, have every host write one, too.

    `folder` is a Storage.
    """
    name = f".distmed-{secrets.token_hex(6)}"
    existed = bool(folder.children()) or folder.filesystem.exists(folder.path)
    probe = folder / name
    with probe.writing() as file:
        file.write(name.encode())
    try:
        trouble = on_every_host(lambda: _trouble(folder, name, written))
    finally:
        probe.remove()
        if not existed:
            folder.remove()
    blind = sorted(host for host, found in trouble.items() if found == BLIND)
    if blind:
        raise UserError(
            f"{what}: {one_of(blind)} cannot read what this host writes to {folder}",
            "set checkpoint.storage_path to a folder or URL that all hosts share, and start the run in such a folder",
        )
    for host, found in sorted(trouble.items()):
        if found:
            raise UserError(
                f"{what}: {host} cannot write to {folder}: {found}",
                "mount it there with the right to write, or set checkpoint.storage_path to a place that all hosts write to",
            )


def _trouble(folder: Any, probe: str, written: bool) -> str:
    """Of this host with a file that another wrote, and with one of its own: BLIND, why it cannot write, or nothing."""
    try:
        if (folder / probe).read() != probe.encode():
            return BLIND
    except Exception:  # every store behind fsspec has errors of its own
        return BLIND
    if not written:
        return ""
    own = folder / f"{probe}-{secrets.token_hex(4)}"
    try:
        with own.writing() as file:
            file.write(b"")
        own.remove()
    except Exception as error:  # every store behind fsspec has errors of its own
        return str(getattr(error, "strerror", None) or type(error).__name__)
    return ""


def check_disk(job: Job) -> None:
    """Whether the next checkpoints fit on the disk, where that is known: on a local path, with a model whose size is known."""
    from distmed.checkpoint.storage import Storage
    from distmed.plan.memory import checkpoints_at_once

    where = Storage.at(job.checkpoints)
    size = checkpoint_bytes(job)
    if not where.is_local or size is None:
        return
    there = next(folder for folder in [Path(where.path), *Path(where.path).parents] if folder.exists())
    free = shutil.disk_usage(there).free
    # What lies there already is counted as free.
    known = sum(file.stat().st_size for file in Path(where.path).glob("step-*/*") if file.is_file())
    needed = size * checkpoints_at_once(job.recipe.checkpoint.keep, job.recipe.cluster.most)
    if free + known < needed:
        raise UserError(
            f"{job.checkpoints} has {free / 2**30:.1f} GiB free, the checkpoints of this run need {needed / 2**30:.1f} GiB",
            "free some, lower checkpoint.keep, or set checkpoint.storage_path to a larger place (and copy earlier ones there)",
        )


def checkpoint_bytes(job: Job) -> int | None:
    """About how large one checkpoint is: that of the newest that is there, else by the weights of the model's folder."""
    from distmed.plan.memory import BYTES_PER_TRAINED
    from distmed.train.resume import newest_saved

    saved = newest_saved(job.checkpoints)
    if saved is not None:
        return sum(file.stat().st_size for file in Path(saved.folder).iterdir()) if "://" not in saved.folder else None
    parameters = sum(_parameters(file) for file in weight_files(job.model_folder) if file.is_file())
    return parameters * BYTES_PER_TRAINED if parameters and job.recipe.model.lora is None else None


def _parameters(file: Path) -> int:
    tensors, _ = header(file)
    return sum(math.prod(tensor["shape"]) for tensor in tensors.values())
