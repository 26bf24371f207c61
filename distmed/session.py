"""A Ray to work on: the cluster that is there, or a local one for as long as the work lasts, and whether it has room."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager

from distmed.errors import UserError, first_line
from distmed.recipe import Cluster

LOCAL_OBJECT_STORE_BYTES = 256 * 2**20
CONNECT_TIMEOUT_S = 10
# Ray takes back what a driver held some seconds after it ended.
HANDED_BACK_S = 10.0


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
        with _other_process_group():
            ray.init(
                address="local",
                include_dashboard=False,
                object_store_memory=LOCAL_OBJECT_STORE_BYTES,
                log_to_driver=True,
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
    except (RuntimeError, ray.exceptions.RayError) as error:
        # Another version of Ray or of Python, or a token that is not the cluster's.
        raise UserError(
            f"the Ray cluster at RAY_ADDRESS={address} refuses: {first_line(error)}",
            "install the cluster's versions of ray and Python here, and set the cluster's RAY_AUTH_TOKEN",
        ) from error


@contextmanager
def _other_process_group() -> Iterator[None]:
    """What is started in here is not in the driver's process group.

    `timeout`, job scripts and a terminal that is closed signal a whole group. That is for the driver to heed: a local Ray that
    met TERM, USR1 or HUP itself would end before anything is saved. A driver that leads its session cannot leave its group.
    """
    before = os.getpgrp()
    if os.getsid(0) == os.getpid():
        yield
        return
    # It leads the other group, and ends with its standard input.
    leader = subprocess.Popen(["cat"], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, process_group=0)
    os.setpgid(0, leader.pid)
    try:
        yield
    finally:
        os.setpgid(0, before)
        leader.communicate()


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


def places() -> list[int]:
    """How many workers fit on each host that is there, whoever holds it now."""
    import ray

    gpu, leaving = on_gpu(), draining()
    there = [node for node in ray.nodes() if node["Alive"] and node["NodeID"] not in leaving]
    return [_fit(node["Resources"], gpu=gpu) for node in there]


def draining() -> set[str]:
    """The hosts, by Ray's ids, that are to be taken away (a spot machine, a pod, `ray drain-node`) and get nothing new."""
    from ray._private.state import state

    return set(state.get_draining_nodes())


def free_places() -> int:
    """How many workers fit into what nobody holds."""
    from ray._private.state import available_resources_per_node

    gpu, leaving = on_gpu(), draining()
    return sum(_fit(there, gpu=gpu) for node, there in available_resources_per_node().items() if node not in leaving)


def _fit(resources: Mapping[str, float], *, gpu: bool) -> int:
    """A worker takes a GPU and a CPU of one host, or a CPU where there is no GPU."""
    cpus = resources.get("CPU", 0)
    return int(min(resources.get("GPU", 0), cpus) if gpu else cpus)


def wait_for_room(cluster: Cluster) -> None:
    """Wait at most `cluster.wait_s` until as many workers fit as the recipe asks for, else raise UserError.

    What is held by others has a few seconds in any case: a run that has just ended may still give back what it held.
    """
    gpu = on_gpu()
    kind = "GPU and a CPU" if gpu else "CPU"
    began = time.monotonic()
    with ExitStack() as stack:
        wanted = False
        while True:
            there = sum(places())
            free = min(there, free_places())
            if free >= cluster.least:
                return
            patience_s = max(cluster.wait_s, HANDED_BACK_S) if there >= cluster.least else cluster.wait_s
            if time.monotonic() >= began + patience_s:
                held = f", {there - free} of them held by others" if there > free else ""
                more = "add hosts" if there >= cluster.least else _more_room(gpu=gpu)
                raise UserError(
                    f"{cluster.least} workers want a {kind} each, the cluster has {there}{held} (waited {patience_s:g} s)",
                    f"lower --num-workers to {max(free, 1)}, {more}, or raise cluster.wait_s",
                )
            if not wanted:
                stack.enter_context(_wanted(cluster.least, gpu=gpu))
                wanted = True
            time.sleep(min(1.0, max(0.0, began + patience_s - time.monotonic())))


def _more_room(*, gpu: bool) -> str:
    """What would give more workers a place; a job that asks for GPUs alone often gets one CPU beside them."""
    import ray

    there = ray.cluster_resources()
    gpus, cpus = int(there.get("GPU", 0)), int(there.get("CPU", 0))
    return f"give Ray more CPUs (it has {cpus} for {gpus} GPUs)" if gpu and cpus < gpus else "add hosts"


@contextmanager
def _wanted(workers: int, *, gpu: bool) -> Iterator[None]:
    """While this lasts a cluster that can grow by itself is asked for so much room; nobody else would tell it before a run."""
    from ray.autoscaler.sdk import request_resources

    request_resources(bundles=[{"CPU": 1, "GPU": 1} if gpu else {"CPU": 1}] * workers)
    try:
        yield
    finally:
        request_resources(bundles=[])
