"""What to try next: the recipe's own setting, those that it names, then what Optuna or the grid proposes, each over its seeds.

The trials as they stand flow in, one `Proposal` at a time flows out. Nothing here knows Ray, and nothing trains.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from distmed.errors import UserError
from distmed.tune.record import Trial
from distmed.tune.space import Setting, Space
from distmed.tuning import Tune

if TYPE_CHECKING:
    from optuna.samplers import BaseSampler
    from optuna.study import Study

DEFAULT_TRIALS = 20
PROGRESS_STEPS = 1000
"""Optuna counts a stopped trial's progress in whole numbers: in thousandths."""


@dataclass(frozen=True)
class Proposal:
    number: int
    point: int
    repeat: int
    setting: Setting


class Proposals:
    """Proposes trials until the search has had its settings. `trials` (by number) is kept up to date by the search.

    On a resume `trials` holds those of before: unfinished ones are proposed first, finished ones teach the sampler.
    `notes` say what will not be tried. Raises UserError where no combination of a grid fits the recipe.
    """

    def __init__(
        self, space: Space, tune: Tune, *, seed: int, mode: str, trials: dict[int, Trial], parallel: bool
    ) -> None:
        import optuna

        optuna.logging.set_verbosity(optuna.logging.ERROR)
        warnings.filterwarnings("ignore", category=optuna.exceptions.ExperimentalWarning)
        self.space, self.tune, self.mode, self.trials = space, tune, mode, trials
        self.points: dict[int, Setting] = {trial.point: _first_setting(trial) for trial in trials.values()}
        self.waiting = [trial for trial in trials.values() if not trial.ended]
        self.repeats: list[tuple[int, int]] = []
        self.told: set[int] = set()
        # Optuna's own defaults but for what the number of trials at once decides.
        self.study = _study(_sampler(tune.search, seed + len(trials), parallel), mode)
        self.open: dict[int, Any] = {}
        self.notes: list[str] = []
        self.grid = self._fitting(space.grid()) if tune.search == "grid" else None
        self.wanted = self._wanted()
        dropped = 1 + len(space.initial) - self.wanted
        if dropped > 0:
            self.notes.append(f"tune.trials={self.wanted} has no room for the last {dropped} of tune.initial")
        for trial in trials.values():
            if trial.ended:
                self.ended(trial)

    def next(self) -> Proposal | None:
        """The next trial; None when there is nothing to start now. `finished` says whether that is for good."""
        if self.waiting:
            trial = self.waiting.pop(0)
            return Proposal(trial.number, trial.point, trial.repeat, trial.setting)
        if self.repeats:
            point, repeat = self.repeats.pop(0)
            return self._proposal(point, repeat)
        point = len(self.points)
        if point >= self.wanted:
            return None
        self.points[point] = self._setting(point)
        return self._proposal(point, 0)

    def _proposal(self, point: int, repeat: int) -> Proposal:
        number = max(self.trials, default=-1) + 1
        return Proposal(number, point, repeat, self.points[point])

    @property
    def finished(self) -> bool:
        """Whether no trial will be proposed any more, whatever the running ones do."""
        running = any(not trial.ended for trial in self.trials.values())
        more_seeds = self.tune.seeds > 1 and running
        return not self.waiting and not self.repeats and len(self.points) >= self.wanted and not more_seeds

    def ended(self, trial: Trial) -> None:
        """A trial came to its end: its setting gets its other seeds if it was not stopped, and then teaches the sampler."""
        of_point = [each for each in self.trials.values() if each.point == trial.point]
        repeats = {each.repeat for each in of_point}
        if trial.repeat == 0 and trial.state == "done":
            self.repeats += [(trial.point, repeat) for repeat in range(1, self.tune.seeds) if repeat not in repeats]
        wanted = self.tune.seeds if any(each.repeat == 0 and each.state == "done" for each in of_point) else 1
        if len(of_point) >= wanted and all(each.ended for each in of_point):
            self._teach(trial.point, of_point)

    # ------------------------------------------------------------------ settings

    def _wanted(self) -> int:
        named = 1 + len(self.space.initial)
        if self.grid is None:
            return self.tune.trials or DEFAULT_TRIALS
        ahead = [self.space.untuned, *self.space.initial]
        self.grid = [setting for setting in self.grid if setting not in ahead]
        whole = named + len(self.grid)
        return min(self.tune.trials or whole, whole)

    def _fitting(self, grid: list[Setting]) -> list[Setting]:
        """Those that make a recipe."""
        misfits = [self._misfit(setting) for setting in grid]
        why = [each for each in misfits if each]
        if len(why) == len(grid):
            raise UserError(f"no combination of tune.space fits the recipe, the last: {why[-1]}", "mend the space")
        if why:
            self.notes.append(
                f"left out as they fit no recipe: {len(why)} of {len(grid)} combinations, the last: {why[-1]}"
            )
        return [setting for setting, misfit in zip(grid, misfits, strict=True) if not misfit]

    def _misfit(self, setting: Setting) -> str:
        """Why it makes no recipe; empty where it does. Knobs that fit one by one may not fit together."""
        try:
            self.space.recipe_of(setting)
        except UserError as error:
            return error.message
        return ""

    def _setting(self, point: int) -> Setting:
        named = [self.space.untuned, *self.space.initial]
        if point < len(named):
            return named[point]
        if self.grid is not None:
            return self.grid[point - len(named)]
        return self._sampled(point)

    def _sampled(self, point: int) -> Setting:
        """What the sampler proposes; it is asked again where that makes no recipe."""
        import optuna

        why = ""
        for _ in range(100):
            trial = self.study.ask()
            setting = self.space.draw(trial)
            why = self._misfit(setting)
            if not why:
                self.open[point] = trial
                return setting
            self.study.tell(trial, state=optuna.trial.TrialState.FAIL)
        raise UserError(
            f"100 settings drawn from tune.space do not fit the recipe, the last: {why}", "narrow the space"
        )

    # ------------------------------------------------------------------ the sampler

    def _teach(self, point: int, trials: list[Trial]) -> None:
        from optuna.trial import TrialState, create_trial

        if point in self.told:
            return
        self.told.add(point)
        best = [found.value for each in trials if (found := each.best(self.mode))]
        stopped = any(each.state == "stopped" for each in trials)
        state = TrialState.FAIL if not best else TrialState.PRUNED if stopped else TrialState.COMPLETE
        value = sum(best) / len(best) if state == TrialState.COMPLETE else None
        curve = trials[0].evaluations if len(trials) == 1 else []
        seen = {max(1, round(each.progress * PROGRESS_STEPS)): each.value for each in curve}
        trial = self.open.pop(point, None)
        if trial is not None:
            for step, each in seen.items():
                trial.report(each, step)
            self.study.tell(trial, value, state=state)
            return
        distributions = self.space.distributions(self.points[point])
        if distributions is None or state == TrialState.FAIL:
            return
        self.study.add_trial(
            create_trial(
                state=state,
                value=value if state == TrialState.COMPLETE else best[-1],
                params=self.space.params(self.points[point]),
                distributions=distributions,
                intermediate_values=seen,
            )
        )


def _first_setting(trial: Trial) -> Setting:
    """What the point proposed; a copied trial has another one by now."""
    return next(phase.setting for phase in trial.phases) if trial.phases else trial.setting


def _study(sampler: BaseSampler, mode: str) -> Study:
    import optuna

    return optuna.create_study(sampler=sampler, direction="minimize" if mode == "min" else "maximize")


def _sampler(search: str, seed: int, parallel: bool) -> BaseSampler:
    """`grid` asks no sampler, and gets one that costs nothing."""
    import optuna

    if search != "optuna":
        return optuna.samplers.RandomSampler(seed=seed)
    return optuna.samplers.TPESampler(seed=seed, multivariate=True, group=True, constant_liar=parallel)
