"""What Ray Train's controller tells when workers end by themselves, handed to the logbook, which knows where they were."""

from __future__ import annotations

from typing import Any

import ray
from ray.exceptions import RayActorError
from ray.train import UserCallback


class Failures(UserCallback):
    """Runs in the controller."""

    def __init__(self, logbook: Any) -> None:
        self.logbook = logbook

    def after_exception(self, run_context: Any, worker_exceptions: dict[int, Exception]) -> None:
        died = [rank for rank, error in worker_exceptions.items() if isinstance(error, RayActorError)]
        lost = [node["NodeID"] for node in ray.nodes() if not node["Alive"]]
        errors = {rank: _last_line(error) for rank, error in worker_exceptions.items()}
        ray.get(self.logbook.workers_failed.remote(errors, died, lost))


def _last_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[-1] if lines else type(error).__name__
