"""Population-based training (Jaderberg et al. 2017, arXiv:1711.09846) over sharded checkpoints.

Evaluations flow in. At every look, a trial among the worst goes on as a copy of one among the best, with its weights, optimizer
state and place in the data, and with a setting that is changed a little.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from ray.tune.schedulers import FIFOScheduler, TrialScheduler

from distmed.errors import UserError
from distmed.tune.record import Trial
from distmed.tune.space import Setting, Space
from distmed.tune.trial import Order
from distmed.tuning import CHANGEABLE, Tune

if TYPE_CHECKING:
    from ray.tune.execution.tune_controller import TuneController
    from ray.tune.experiment import Trial as RayTrial

FACTORS = (0.8, 1.25)
RESAMPLE = 0.25


def check_population(space: Space) -> None:
    """Raises UserError for a knob that a copy could not take over, or that would not stay as the copy has it."""
    fixed = {key for change in space.recipe.changes for key in change.set}
    for key in space.knobs:
        if key in fixed:
            raise UserError(
                f"tune.scheduler: pbt cannot vary {key}, which the recipe's own `changes` set",
                "take it out of `changes` or out of the space, or use asha",
            )
        if key not in CHANGEABLE:
            raise UserError(
                f"tune.scheduler: pbt cannot change {key} in the middle of a run",
                f"vary {', '.join(CHANGEABLE)}, or use asha",
            )


class Population(FIFOScheduler):
    """`clone(number, source, setting)` lets a trial go on as a copy: its new order, None where that cannot be now."""

    def __init__(
        self,
        space: Space,
        tune: Tune,
        *,
        mode: str,
        seed: int,
        trials: dict[int, Trial],
        clone: Callable[[int, int, Setting], Order | None],
    ) -> None:
        super().__init__()
        self.space, self.tune, self.trials, self.clone = space, tune, trials, clone
        self.sign = 1.0 if mode == "max" else -1.0
        self.random = random.Random(seed)
        self.looks: dict[int, int] = {}

    def set_search_properties(self, metric: str | None, mode: str | None, **spec: Any) -> bool:
        return True

    def on_trial_result(self, tune_controller: TuneController, trial: RayTrial, result: dict[str, Any]) -> str:
        if "value" not in result or result.get("done") or result["progress"] >= 1.0:
            return str(TrialScheduler.CONTINUE)
        number = trial.config["trial"]
        self.looks[number] = self.looks.get(number, 0) + 1
        if self.looks[number] % self.tune.exploit_every:
            return str(TrialScheduler.CONTINUE)
        scores = self._scores(number, result)
        worst, best = self._ends(scores)
        if number not in worst:
            return str(TrialScheduler.CONTINUE)
        source = self.random.choice(best)
        order = self.clone(number, source, self.changed(self.trials[source].setting))
        if order is None:
            return str(TrialScheduler.CONTINUE)
        tune_controller.pause_trial(trial, should_checkpoint=False)
        trial.set_config(asdict(order))
        return str(TrialScheduler.NOOP)

    def changed(self, setting: Setting) -> Setting:
        """Each number by a factor, or drawn anew, as where the recipe has none; a choice moves to its neighbor."""
        return {key: self._changed(key, value) for key, value in setting.items()}

    def _changed(self, key: str, value: Any) -> Any:
        knob = self.space.knobs[key]
        if knob.choice is not None:
            at = knob.choice.index(value) if value in knob.choice else 0
            return knob.choice[min(max(at + self.random.choice((-1, 1)), 0), len(knob.choice) - 1)]
        if value is None or self.random.random() < RESAMPLE:
            low, high = knob.uniform or knob.loguniform or knob.randint or (value, value)
            if knob.loguniform:
                return low * (high / low) ** self.random.random()
            return self.space.clip(key, low + (high - low) * self.random.random())
        return self.space.clip(key, value * self.random.choice(FACTORS))

    def _scores(self, number: int, result: dict[str, Any]) -> dict[int, float]:
        """The last value of each running trial, wherever it is: nobody waits for the slowest. What is not finite is worst."""
        value = result["value"]
        found = {number: self.sign * value if math.isfinite(value) else -math.inf}
        for other in self.trials.values():
            own = other.own_evaluations
            if other.number != number and other.state == "running" and own and other.progress < 1.0:
                found[other.number] = self.sign * own[-1].value
        return found

    def _ends(self, scores: dict[int, float]) -> tuple[list[int], list[int]]:
        """(the worst, the best), in equal numbers; both empty where there is only one."""
        order = sorted(scores, key=lambda number: (scores[number], number))
        many = min(max(1, round(len(order) * self.tune.quantile)), len(order) // 2)
        return order[:many], order[len(order) - many :] if many else []
