"""Ray Train over one job, in a thread of its own: what starts it is free meanwhile for signals and news, and can end it."""

from __future__ import annotations

import contextlib
import time
from typing import Any

import ray
from ray.train.v2._internal.execution.callback import ControllerCallback

from distmed.background import Background
from distmed.train import workers
from distmed.train.job import Job

LOOK_EVERY_S = 0.25
END_S = 10.0
# Ray Train's controller is a process, which reads libraries before it says that it is there.
CONTROLLER_S = 120.0


class TellsController(ControllerCallback):
    """Makes Ray Train's controller known, which Ray keeps to itself: without it nobody could end the workers."""

    def __init__(self, logbook: Any) -> None:
        self.logbook = logbook

    def after_controller_start(self, train_run_context: Any) -> None:
        self.logbook.controller_is.remote(ray.get_runtime_context().current_actor)


class Training(Background):
    """`workers.fit`, from now on. `error`: None where workers came to their end."""

    def __init__(
        self, job: Job, logbook: Any, *, failures: int = 0, preemptions: int = 0, trials_per_host: int | None = None
    ) -> None:
        self._logbook = logbook

        def fit() -> Any:
            tells = TellsController(logbook)
            return workers.fit(
                job, logbook, [tells], failures=failures, preemptions=preemptions, trials_per_host=trials_per_host
            )

        ray.get(logbook.controller_is.remote(None))  # that of the training before
        super().__init__("trainer", fit)

    def end(self) -> None:
        """End the workers, if there are any, and give their places back; nothing is saved.

        A process must not leave Ray before: the thread still asks it things, and Ray would end the process for it.
        """
        # Where Ray itself is gone, there is nobody to end.
        with contextlib.suppress(ray.exceptions.RayError):
            _abort(self._controller())
        self.wait(END_S)

    def _controller(self) -> Any:
        """None where it has ended; one that is about to start is waited for."""
        deadline = time.monotonic() + CONTROLLER_S
        while self.is_alive() and time.monotonic() < deadline:
            controller = ray.get(self._logbook.controller.remote(), timeout=END_S)
            if controller is not None:
                return controller
            self.wait(LOOK_EVERY_S)
        return None


def _abort(controller: Any) -> None:
    """Let Ray Train's controller end its workers and give their places back; kill it where it does not."""
    if controller is None:
        return
    try:
        ray.get(controller.abort.remote(), timeout=END_S)
    except ray.exceptions.RayActorError:
        return
    except ray.exceptions.GetTimeoutError:
        pass
    ray.kill(controller)
