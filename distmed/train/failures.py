"""What Ray Train's controller tells when workers end by themselves, handed to the logbook, which knows where they were."""

from __future__ import annotations

from typing import Any

import ray
from ray.exceptions import RayActorError
from ray.train import UserCallback

from distmed.train import stall
from distmed.train.stall import Place

LOOK_S = 5.0


class Failures(UserCallback):
    """Runs in the controller."""

    def __init__(self, logbook: Any) -> None:
        self.logbook = logbook

    def after_exception(self, run_context: Any, worker_exceptions: dict[int, Exception]) -> None:
        died = [rank for rank, error in worker_exceptions.items() if isinstance(_met(error), RayActorError)]
        if not died:
            # Workers whose peer is gone fail, too, and may be heard before anybody knows of the peer.
            places: dict[int, Place] = ray.get(self.logbook.whereabouts.remote())
            unheard = [place for rank, place in places.items() if rank not in worker_exceptions]
            answers = stall.on_hosts(unheard, stall.lives, LOOK_S)
            died = [rank for rank, answer in answers.items() if answer != stall.LIVES]
        lost = [node["NodeID"] for node in ray.nodes() if not node["Alive"]]
        errors = {rank: _last_line(error) for rank, error in worker_exceptions.items()}
        ray.get(self.logbook.workers_failed.remote(errors, died, lost))


def _met(error: Exception) -> Exception:
    """What the poll of a worker met; Ray Train wraps it."""
    return getattr(error, "health_check_failure", error)


def _last_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[-1] if lines else type(error).__name__
