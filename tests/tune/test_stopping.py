"""Who is stopped early goes by what all trials reached, also those of a session before."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

from distmed.tune.record import Record, Trial
from distmed.tune.stopping import Stopping, stopping
from tests.tune.simulated import recipe_with

CONTROLLER: Any = SimpleNamespace(get_live_trials=list)


class OfRay:
    """What the rules read of a trial of Ray Tune's."""

    def __init__(self, number: int) -> None:
        self.trial_id = f"of-ray-{number}"
        self.config = {"trial": number, "point": number, "repeat": 0}


def scheduler(name: str, trials: dict[int, Trial]) -> Stopping:
    tune = recipe_with(scheduler=name).tune
    assert tune is not None
    found = stopping(tune, mode="max", first_progress=0.1, trials=trials)
    assert isinstance(found, Stopping)
    return found


def evaluated(rule: Stopping, record: Record, trial: Any, tenth: int, value: float) -> str:
    record.evaluated(trial.config["trial"], tenth, tenth / 10, value, {})
    return rule.on_trial_result(CONTROLLER, trial, {"progress": tenth / 10, "value": value})


def test_a_trial_that_is_behind_when_the_search_is_resumed_is_judged_as_any_other(tmp_path: Path) -> None:
    record = Record(tmp_path / "r.jsonl")
    for number in range(5):
        record.start(Trial(number, number, 0, {}))
        for tenth in range(1, 3 if number in (0, 1) else 11):
            record.evaluated(number, tenth, tenth / 10, 0.1 if number in (0, 1) else 0.5, {})
        if number > 1:
            record.ended(number, "done")
    resumed = Record(tmp_path / "r.jsonl")
    rule = scheduler("median", resumed.trials)
    own, other = OfRay(0), OfRay(1)
    for trial in (own, other):
        rule.on_trial_add(CONTROLLER, trial)  # type: ignore[arg-type]
    # The recipe's own runs to its end.
    assert [evaluated(rule, resumed, own, tenth, 0.1) for tenth in (3, 4, 5)] == ["CONTINUE"] * 3
    assert evaluated(rule, resumed, other, 3, 0.1) == "STOP"


def test_the_rungs_of_a_resumed_search_are_those_that_it_had(tmp_path: Path) -> None:
    record = Record(tmp_path / "r.jsonl")
    rule = scheduler("asha", record.trials)
    trials = [OfRay(number) for number in range(5)]
    for trial in trials:
        record.start(Trial(trial.config["trial"], trial.config["point"], 0, {}))
        rule.on_trial_add(CONTROLLER, trial)  # type: ignore[arg-type]
    # All at once. Each but the recipe's own is as good as those before it; in the order of their numbers most are behind.
    curves = [[0.2, 0.2, 0.2, 0.3], [0.53, 0.6, 0.6, 0.93], [0.52, 0.6, 0.6, 0.92], [0.51, 0.6, 0.6, 0.91], [0.5] * 4]
    for tenth in range(1, 5):
        for trial in (*trials[:0:-1], trials[0]):
            assert evaluated(rule, record, trial, tenth, curves[trial.config["trial"]][tenth - 1]) == "CONTINUE"
    for number in range(4):
        record.ended(number, "done")
    resumed = scheduler("asha", Record(tmp_path / "r.jsonl").trials)
    resumed.on_trial_add(CONTROLLER, OfRay(4))  # type: ignore[arg-type]
    before = rungs(rule)
    assert before == {0.1: [0.2, 0.5, 0.51, 0.52, 0.53], 0.4: [0.3, 0.5, 0.91, 0.92, 0.93]}
    assert rungs(resumed) == before


def rungs(rule: Stopping) -> dict[float, list[float]]:
    asha: Any = rule.rule
    return {round(at, 3): sorted(values.values()) for at, values in asha._brackets[0]._rungs}
