"""A trial as Ray Tune sees it: an actor on the driver's host that holds no worker's place itself, and is used again.

Ray Tune's config flows in; one result for each evaluation, and a last one that says how the trial ended, flow out.
"""

from __future__ import annotations

import os
from typing import Any

from ray import tune

from distmed.tune.trial import Order, Plan, TrialRun


class TrialRunner(tune.Trainable):
    """`step` lasts from one evaluation to the next. No Tune checkpoint: the run directory of the trial has its own."""

    def setup(self, config: dict[str, Any], plan: Plan | None = None) -> None:
        assert plan is not None
        os.environ.setdefault("RAY_TRAIN_ENABLE_STATE_TRACKING", "0")
        self.plan = plan
        self.run = TrialRun(plan, Order(**config))

    def step(self) -> dict[str, Any]:
        return self.run.next()

    def release(self) -> None:
        """Give the workers back, and say how far the trial got: the search has stopped it."""
        self.run.end({"state": "stopped"})

    def cleanup(self) -> None:
        self.run.end()

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """The next trial in the same process, which has imported and connected already."""
        self.run.end()
        self.config = new_config
        self.run = TrialRun(self.plan, Order(**new_config))
        return True
