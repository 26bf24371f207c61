"""Who is stopped early: Ray's ASHA and median rule, asked at evaluations and at nothing else.

Evaluations flow in, go-on or stop flows out. Progress is the part of a trial's own steps that is done, so that trials of
different length are compared at the same place of their schedules.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from ray.tune.schedulers import AsyncHyperBandScheduler, FIFOScheduler, MedianStoppingRule, TrialScheduler

from distmed.tune.record import Trial
from distmed.tuning import Tune

if TYPE_CHECKING:
    from ray.tune.execution.tune_controller import TuneController
    from ray.tune.experiment import Trial as RayTrial

ROUNDING = 1e-9
"""Progress is a quotient: 3/10 must reach the rung at 3 × 1/10."""


class Stopping(FIFOScheduler):
    """A rule of Ray's, with what this search adds: two kinds of trials are never stopped, and none at its last step.

    The recipe's own setting runs to its end, since all else is compared with it; further seeds of a setting do, too, since
    its first seed has passed. `trials` are those of the record: a resumed trial brings the evaluations of before along.
    """

    def __init__(self, rule: TrialScheduler, trials: dict[int, Trial]) -> None:
        super().__init__()
        self.rule = rule
        self.trials = trials
        self.judged: set[str] = set()

    def learn(self) -> None:
        """Let the rule see the ended trials of a search that is resumed."""
        for trial in self.trials.values():
            if trial.ended and trial.repeat == 0:
                past = _Past(f"past-{trial.number}")
                self.rule.on_trial_add(None, past)  # type: ignore[arg-type]
                self._replay(past, trial)

    def set_search_properties(self, metric: str | None, mode: str | None, **spec: Any) -> bool:
        """The rule was made with both."""
        return True

    def on_trial_add(self, tune_controller: TuneController, trial: RayTrial) -> None:
        self.rule.on_trial_add(tune_controller, trial)
        known = self.trials.get(trial.config["trial"])
        if known is not None and known.repeat == 0:
            self._replay(trial, known)

    def on_trial_result(self, tune_controller: TuneController, trial: RayTrial, result: dict[str, Any]) -> str:
        if "value" not in result or result.get("done") or trial.config["repeat"] > 0:
            return str(TrialScheduler.CONTINUE)
        seen = _seen(result["progress"], result["value"])
        if trial.trial_id in self.judged:
            self._tell(trial, seen)
            return str(TrialScheduler.CONTINUE)
        decision = self.rule.on_trial_result(tune_controller, trial, seen)
        if decision == TrialScheduler.CONTINUE:
            return decision
        self.judged.add(trial.trial_id)
        exempt = trial.config["point"] == 0 or result["progress"] >= 1.0
        return str(TrialScheduler.CONTINUE if exempt else TrialScheduler.STOP)

    def _replay(self, trial: Any, known: Trial) -> None:
        """Who was to be stopped is in the record: asked again, in another order, the rule would say something else."""
        for each in known.evaluations:
            self._tell(trial, _seen(each.progress, each.value))

    def _tell(self, trial: Any, seen: dict[str, float]) -> None:
        """Let the rule know an evaluation, whatever it would decide."""
        nobody: Any = None
        if isinstance(self.rule, MedianStoppingRule):
            # Asked, it would strike the trial off once behind, and fail at its next evaluation.
            self.rule.on_trial_complete(nobody, trial, seen)
        else:
            self.rule.on_trial_result(nobody, trial, seen)


class _Past:
    """Stands for a trial of an earlier session: the rules know a trial by its id."""

    def __init__(self, trial_id: str) -> None:
        self.trial_id = trial_id


def stopping(tune: Tune, *, mode: str, first_progress: float, trials: dict[int, Trial]) -> FIFOScheduler:
    """The scheduler of a `tune:` block; `first_progress` is the part of a trial that its first evaluation ends."""
    grace = min(1.0, first_progress * tune.grace)
    rule: TrialScheduler
    if tune.scheduler == "asha":
        rule = AsyncHyperBandScheduler(
            time_attr="progress",
            metric="value",
            mode=mode,
            max_t=1.0,  # type: ignore[arg-type]
            grace_period=grace,  # type: ignore[arg-type]
            reduction_factor=tune.reduction,
            stop_last_trials=False,
        )
    elif tune.scheduler == "median":
        rule = MedianStoppingRule(
            time_attr="progress",
            metric="value",
            mode=mode,
            grace_period=grace,
            min_time_slice=math.inf,  # type: ignore[arg-type]
        )
    else:
        return FIFOScheduler()
    found = Stopping(rule, trials)
    found.learn()
    return found


def _seen(progress: float, value: float) -> dict[str, float]:
    return {"progress": progress + ROUNDING, "value": value}
