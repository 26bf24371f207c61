"""A search without training: the search's own proposals, record and stopping over learning curves from a formula."""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from distmed.recipe import Recipe
from distmed.recipe_file import check
from distmed.rundir import RunDir
from distmed.tune.proposals import Proposals
from distmed.tune.record import Record
from distmed.tune.search import Search
from distmed.tune.space import Space
from distmed.tune.stopping import stopping
from distmed.tune.trial import Plan

STEPS, EVERY = 90, 10
LEAST: dict[str, Any] = {
    "name": "simulated",
    "task": "classify",
    "model": {"path": "m"},
    "data": {"train": [{"source": "x"}], "eval": [{"source": "y"}]},
    "optimizer": {"lr": 1e-5},
}
SPACE: dict[str, Any] = {
    "optimizer.lr": {"loguniform": [1e-6, 1e-2]},
    "optimizer.weight_decay": {"loguniform": [1e-4, 1.0]},
    "optimizer.warmup": {"uniform": [0.0, 0.5]},
    "data.drop_findings": {"uniform": [0.0, 0.6]},
}


def recipe_with(**tune: Any) -> Recipe:
    return check({**LEAST, "tune": {"space": SPACE, "metric": "diag/macro_f1", **tune}})


def macro_f1(recipe: Recipe, progress: float, seed: int, trial: int) -> float:
    """A learning curve of the usual kind: one good region of the learning rate, weaker optima of the others, noise."""
    optimizer = recipe.optimizer
    off = (
        (math.log10(optimizer.lr) + 3.4) ** 2 / 1.5
        + (math.log10(max(optimizer.weight_decay, 1e-6)) + 1.5) ** 2 / 20
        + (optimizer.warmup - 0.1) ** 2 * 2
        + (recipe.data.drop_findings - 0.35) ** 2 * 3
    )
    noise = random.Random(f"{seed} {trial} {progress:.3f}").gauss(0, 0.004)
    return 0.8 * math.exp(-off / 2) * (1 - math.exp(-4.5 * progress)) + noise


@dataclass
class Found:
    """What a simulated search gave: the record, the steps spent, and the best value (by the formula's noise and all)."""

    record: Record
    steps: int
    mode: str = "max"

    @property
    def best(self) -> float:
        return max(best.value for trial in self.record.trials.values() if (best := trial.best(self.mode)))


def search(
    recipe: Recipe,
    folder: Path,
    *,
    seed: int,
    budget: float = math.inf,
    curve: Callable[[Recipe, float, int, int], float] = macro_f1,
    killed_after: float = math.inf,
) -> Found:
    """One trial at a time until the settings, the budget of steps, or (as by kill -9) `killed_after` steps are used up."""
    tune = recipe.tune
    assert tune is not None
    space = Space(recipe)
    record = Record(folder / f"search-{seed}.jsonl")
    proposals = Proposals(space, tune, seed=seed, mode="max", trials=record.trials, parallel=False)
    scheduler = stopping(tune, mode="max", first_progress=EVERY / STEPS, trials=record.trials)
    spent = 0
    while (proposal := proposals.next()) and spent < budget:
        from distmed.tune.record import Trial

        record.start(Trial(proposal.number, proposal.point, proposal.repeat, proposal.setting))
        trial = record.trials[proposal.number]
        stand_in: Any = SimpleNamespace(
            trial_id=str(proposal.number),
            config={"trial": proposal.number, "point": proposal.point, "repeat": proposal.repeat},
        )
        stand_in = _Hashable(stand_in.trial_id, stand_in.config)
        controller: Any = SimpleNamespace(get_live_trials=list)
        scheduler.on_trial_add(controller, stand_in)
        trained = space.recipe_of(proposal.setting)
        for step in range(trial.step + EVERY, STEPS + 1, EVERY):
            spent += EVERY
            if spent > killed_after:
                return Found(record, spent)
            value = curve(trained, step / STEPS, seed, proposal.number)
            record.evaluated(proposal.number, step, step / STEPS, value, {})
            result = {"step": step, "progress": step / STEPS, "value": value}
            if scheduler.on_trial_result(controller, stand_in, result) == "STOP":
                record.ended(proposal.number, "stopped")
                break
        else:
            record.ended(proposal.number, "done")
        proposals.ended(trial)
    return Found(record, spent)


class _Hashable:
    def __init__(self, trial_id: str, config: dict[str, Any]) -> None:
        self.trial_id, self.config = trial_id, config


def search_in(folder: Path, recipe: Recipe, *, workers: int = 1) -> Search:
    """A search of `recipe` with two trials at once, as it stands by the record in `folder`."""
    assert recipe.tune is not None
    cluster = recipe.cluster.model_copy(update={"num_workers": workers})
    plan = Plan(recipe.model_copy(update={"cluster": cluster}), RunDir(folder / "run"), "diag/macro_f1", 2, 2, {})
    plan.run.path.mkdir(exist_ok=True)
    record = Record(plan.run / "search.jsonl")
    return Search(plan, Space(recipe), recipe.tune, record, mode="max", first_progress=0.1)
