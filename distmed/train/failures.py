"""What Ray Train's controller tells when workers end by themselves, handed to the logbook, which knows where they were.

Ray itself believes in a host that is gone until its health checks have failed, and its elastic policy looks at the hosts
every 20 s only: it would start workers there and wait for them in vain, once or twice.
"""

from __future__ import annotations

import contextlib
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import ray
from ray.exceptions import RayActorError
from ray.train import UserCallback

from distmed.errors import last_line
from distmed.train import stall
from distmed.train.stall import Place

LOOK_S = 5.0
CONNECT_S = 2.0
# Five health checks, 3 s apart, of a host whose processes are dead; where a network is cut each takes 10 s, and the group
# is started in the meantime, because the cut may be mended.
BELIEVED_S = 20.0


class Failures(UserCallback):
    """Runs in the controller."""

    def __init__(self, logbook: Any) -> None:
        self.logbook = logbook

    def after_exception(self, run_context: Any, worker_exceptions: dict[int, Exception]) -> None:
        gone = unreachable()
        died = [rank for rank, error in worker_exceptions.items() if isinstance(_met(error), RayActorError)]
        if not died:
            # Workers whose peer is gone fail, too, and may be heard before anybody knows of the peer.
            places: dict[int, Place] = ray.get(self.logbook.whereabouts.remote())
            unheard = [place for rank, place in places.items() if rank not in worker_exceptions]
            answers = stall.on_hosts([place for place in unheard if place.node not in gone], stall.lives, LOOK_S)
            died = [place.rank for place in unheard if answers.get(place.rank) != stall.LIVES]
        lost = [node["NodeID"] for node in ray.nodes() if not node["Alive"]]
        errors = {rank: last_line(error, type(error).__name__) for rank, error in worker_exceptions.items()}
        preempted = any(
            isinstance(met, RayActorError) and met.preempted for met in map(_met, worker_exceptions.values())
        )
        ray.get(self.logbook.workers_failed.remote(errors, died, [*gone, *lost], preempted))
        if gone:
            wait_until_known(gone)
        # Also where Ray knew of it before the workers' end was heard.
        show_hosts_to_policy()


def unreachable() -> set[str]:
    """Hosts that Ray counts on, by its id, on which no raylet listens any more."""

    def listens(node: dict[str, Any]) -> bool:
        with contextlib.suppress(OSError):
            socket.create_connection((node["NodeManagerAddress"], node["NodeManagerPort"]), CONNECT_S).close()
            return True
        return False

    alive = [node for node in ray.nodes() if node["Alive"]]
    with ThreadPoolExecutor(max_workers=32) as pool:
        return {node["NodeID"] for node, there in zip(alive, pool.map(listens, alive), strict=True) if not there}


def wait_until_known(gone: set[str]) -> None:
    """Until Ray no longer counts on these hosts, or until one is back; BELIEVED_S at most."""
    deadline = time.monotonic() + BELIEVED_S
    while time.monotonic() < deadline and any(node["Alive"] for node in ray.nodes() if node["NodeID"] in gone):
        if not gone & unreachable():
            return
        time.sleep(0.2)


def show_hosts_to_policy() -> None:
    """Have Ray's elastic policy look at the hosts now; what it counts workers by may be 20 s old."""
    with contextlib.suppress(ValueError):  # no run of a flexible size has asked it yet
        coordinator = ray.get_actor("AutoscalingCoordinator", namespace="AutoscalingCoordinator")
        ray.get(coordinator.get_reserved_resources.remote("", recompute=True))


def _met(error: Exception) -> Exception:
    """What the poll of a worker met; Ray Train wraps it."""
    return getattr(error, "health_check_failure", error)
