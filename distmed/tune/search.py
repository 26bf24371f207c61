"""The search while it runs: what Ray Tune asks and tells, turned into proposals, stops and lines of the record.

Ray Tune's trials flow in by its three interfaces (searcher, scheduler, callback); the record, up to date, flows out. Ray Tune's
own snapshots are not used: what a resumed search knows, it knows from the record and from the trials' checkpoints.
"""

from __future__ import annotations

import time
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

from ray.tune import Callback
from ray.tune.schedulers import FIFOScheduler
from ray.tune.search import Searcher

from distmed.errors import UserError, last_line
from distmed.recipe import Recipe
from distmed.rundir import RunDir
from distmed.tune import leftovers
from distmed.tune.copying import copy_checkpoint
from distmed.tune.population import Population
from distmed.tune.proposals import Proposals
from distmed.tune.record import Record, Trial, as_loss
from distmed.tune.space import Setting, Space
from distmed.tune.stopping import stopping
from distmed.tune.table import write_tables
from distmed.tune.trial import Order, Plan, logbook_name, trial_folder, trial_recipe
from distmed.tuning import Tune

if TYPE_CHECKING:
    from ray.tune.experiment import Trial as RayTrial


# How often places that a killed trial held are looked for.
LOOK_S = 10.0


class LeftError(Exception):
    """The driver leaves the search; there is nobody to tell."""


class Search:
    """State shared by the three adapters below. Called from Ray Tune's thread; the display only reads."""

    def __init__(
        self, plan: Plan, space: Space, tune: Tune, record: Record, *, mode: str, first_progress: float
    ) -> None:
        self.plan, self.space, self.tune, self.record, self.mode = plan, space, tune, record, mode
        self.seed = plan.recipe.train.seed if tune.seed is None else tune.seed
        self.workers = plan.recipe.cluster.most
        self.closed = ""
        self.left = False
        self.refused: UserError | None = None
        self.given_up: tuple[str, str] | None = None
        self.proposals = Proposals(
            space, tune, seed=self.seed, mode=mode, trials=record.trials, parallel=plan.at_once > 1
        )
        self.scheduler: FIFOScheduler = (
            Population(space, tune, mode=mode, seed=self.seed, trials=record.trials, clone=self.clone)
            if tune.scheduler == "pbt"
            else stopping(tune, mode=mode, first_progress=first_progress, trials=record.trials)
        )
        self.live: dict[str, int] = {}
        self.pruned: set[int] = set()

    @property
    def trials(self) -> list[Trial]:
        return [self.record.trials[number] for number in sorted(self.record.trials)]

    def close(self, why: str) -> None:
        """Propose no more trials; those that run are ended by the caller."""
        self.closed = self.closed or why

    def give_up(self, what: str, hint: str) -> None:
        """Nothing is wrong with the recipe, but no trial can go on now."""
        self.given_up = self.given_up or (what, hint)
        self.close(what)

    # ------------------------------------------------------------------ what Ray Tune's searcher asks

    def propose(self, trial_id: str) -> dict[str, Any] | str | None:
        """The config of a trial; None while there is none to start, Searcher.FINISHED when there will be none."""
        if self.closed:
            return str(Searcher.FINISHED)
        if len(self.live) >= self.plan.at_once:
            return None
        proposal = self.proposals.next()
        if proposal is None:
            return str(Searcher.FINISHED) if self.proposals.finished else None
        self.live[trial_id] = proposal.number
        if proposal.number not in self.record.trials:
            self.record.start(
                Trial(proposal.number, proposal.point, proposal.repeat, proposal.setting, workers=self.workers)
            )
        return asdict(self._order(self.record.trials[proposal.number]))

    @staticmethod
    def _order(trial: Trial) -> Order:
        """A trial as it stands: also one that was to go on as a copy when the search was killed."""
        return Order(trial.number, trial.point, trial.repeat, trial.setting, trial.clones, trial.copied)

    def released(self, trial_id: str) -> None:
        self.live.pop(trial_id, None)

    # ------------------------------------------------------------------ what Ray Tune's callback tells

    def started(self, number: int) -> None:
        """It has a process; with workers it is soon after."""
        if self.record.trials[number].since is None:
            self.record.start(replace(self.record.trials[number], workers=self.workers))

    def reported(self, number: int, result: dict[str, Any]) -> None:
        if result.get("generation", 0) < self.record.trials[number].clones:
            # The result for which it was just turned into a copy: of what it was before.
            return
        if "value" in result and not result.get("state"):
            self.record.evaluated(
                number, result["step"], result["progress"], float(result["value"]), dict(result["metrics"])
            )
            self._forget_generation_before(self.record.trials[number])
        elif result.get("state") == "waiting":
            if result.get("hint"):
                # What is wrong with the storage is wrong for all: each of them goes on when it is mended.
                self._refuse(result["cause"], result["hint"])
            self.record.paused(number)
        elif result.get("state"):
            if result.get("hint") and self.record.trials[number].point == 0:
                # What is wrong with the recipe itself is wrong with all that is tried around it.
                self._refuse(f"the recipe itself cannot be tried: {result['cause']}", result["hint"])
                self.record.paused(number)
                return
            self.ended(number, result["state"], result["cause"])

    def _refuse(self, what: str, hint: str) -> None:
        self.refused = self.refused or UserError(what, hint)
        self.close(what)

    def ended(self, number: int, state: Any, cause: str = "") -> None:
        trial = self.record.trials[number]
        if trial.ended or trial.state == "waiting":
            return
        self.record.ended(number, state, cause)
        self.proposals.ended(trial)
        if self.tune.scheduler != "pbt":
            self.prune(keep=self._needed())
        write_tables(self)

    def _needed(self) -> set[int]:
        """Trials whose weights may still be asked for: the recipe's own, and the best so far with its peers in seeds."""
        if self.tune.seeds > 1:
            return {trial.number for trial in self.trials if trial.repeat == 0 and trial.state != "failed"}
        losses = {
            trial.number: as_loss(best.value, self.mode) for trial in self.trials if (best := trial.best(self.mode))
        }
        return {0, min(losses, key=lambda number: (losses[number], number), default=0)}

    def clone(self, number: int, source: int, setting: Setting) -> Order | None:
        """Let a trial go on as a copy of the source's newest evaluation with a whole checkpoint; None if there is none yet."""
        from distmed.checkpoint import folder as folders
        from distmed.checkpoint.storage import Storage

        steps = {each.step for each in self.record.trials[source].own_evaluations}
        whole = folders.complete_newest_first(self._checkpoints(self._order(self.record.trials[source])), [])
        found = next(((name.step, str(folder)) for name, folder in whole if name.step in steps), None)
        if found is None:
            return None
        step, folder = found
        trial = self.record.trials[number]
        order = replace(self._order(trial), setting=setting, generation=trial.clones + 1, clone=folder)
        root = self._checkpoints(order)
        # What an earlier session began to copy without saying so.
        Storage.at(root).remove()
        if Storage.at(root).is_local:
            # Links, at once: the source trains on, and takes its old checkpoints away.
            copy_checkpoint(folder, root)
        self.record.cloned(number, source, step, setting, folder)
        return order

    def place(self, number: int) -> tuple[RunDir, Recipe]:
        """Where a trial lies as it is now, and its recipe."""
        return self._place(self._order(self.record.trials[number]))

    def _place(self, order: Order) -> tuple[RunDir, Recipe]:
        return trial_folder(self.plan.run, order.trial, order.generation), trial_recipe(self.plan, self.space, order)

    def _checkpoints(self, order: Order) -> str:
        from distmed.checkpoint.folder import checkpoint_root

        run, recipe = self._place(order)
        return checkpoint_root(recipe, run)

    def _forget_generation_before(self, trial: Trial) -> None:
        """Of a trial that goes on as a copy: what others were copied from is theirs by links, but not on a remote storage."""
        from distmed.checkpoint.storage import Storage

        if trial.clones:
            before = Storage.at(self._checkpoints(replace(self._order(trial), generation=trial.clones - 1)))
            if before.is_local:
                before.remove()

    def prune(self, keep: set[int]) -> None:
        """Take away the checkpoints of ended trials but those in `keep`, of which the last generation stays.

        Nor does a folder go that a trial which goes on later is to be copied from.
        """
        from distmed.checkpoint.storage import Storage

        wanted = [trial.copied for trial in self.trials if trial.copied and not trial.ended]
        for trial in self.trials:
            if not trial.ended or trial.number in self.pruned:
                continue
            kept = trial.number in keep
            for generation in range(trial.clones + (not kept)):
                root = Storage.at(self._checkpoints(replace(self._order(trial), generation=generation)))
                if not any(folder.startswith(f"{root}/") for folder in wanted):
                    root.remove()
            if not kept:
                self.pruned.add(trial.number)

    # ------------------------------------------------------------------ what the search has cost

    def seconds(self) -> float:
        """Seconds in which workers were held, all trials together."""
        now = self.record.clock()
        return sum(trial.seconds_at(now) for trial in list(self.record.trials.values()))

    def accelerator_hours(self) -> float:
        now = self.record.clock()
        return sum(trial.accelerator_seconds_at(now) for trial in list(self.record.trials.values())) / 3600

    def tell_running(self, method: str, *arguments: Any) -> list[Any]:
        """Call a method of the logbook of every running trial, by its name; where the answers will be."""
        import ray

        answers = []
        for number in list(self.live.values()):
            try:
                logbook = ray.get_actor(logbook_name(self.plan.run, number))
            except ValueError:
                continue
            answers.append(getattr(logbook, method).remote(*arguments))
        return answers


class Asks(Searcher):
    """Ray Tune's searcher over a Search. Saves nothing: the record has it."""

    def __init__(self, search: Search) -> None:
        super().__init__(metric="value", mode=search.mode)
        self.search = search

    def suggest(self, trial_id: str) -> Any:
        return self.search.propose(trial_id)

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        self.search.released(trial_id)

    def save(self, checkpoint_path: str) -> None: ...

    def restore(self, checkpoint_path: str) -> None: ...


class Tells(Callback):
    """Ray Tune's callback over a Search."""

    def __init__(self, search: Search) -> None:
        self.search = search
        self._looked = 0.0

    def on_step_begin(self, iteration: int, trials: list[RayTrial], **info: Any) -> None:
        if self.search.left:
            # Ray Tune ends all trials then. Nothing of it is written: the record may be another driver's by now.
            raise LeftError
        self.search.record.beat()
        if time.monotonic() - self._looked > LOOK_S:
            self._looked = time.monotonic()
            leftovers.give_back()

    def on_trial_start(self, iteration: int, trials: list[RayTrial], trial: RayTrial, **info: Any) -> None:
        self.search.started(trial.config["trial"])

    def on_trial_result(
        self, iteration: int, trials: list[RayTrial], trial: RayTrial, result: dict[str, Any], **info: Any
    ) -> None:
        self.search.reported(trial.config["trial"], result)

    def on_trial_recover(self, iteration: int, trials: list[RayTrial], trial: RayTrial, **info: Any) -> None:
        self.search.record.retried(trial.config["trial"], _cause(trial))

    def on_trial_error(self, iteration: int, trials: list[RayTrial], trial: RayTrial, **info: Any) -> None:
        self.search.ended(trial.config["trial"], "failed", _cause(trial))

    def on_trial_complete(self, iteration: int, trials: list[RayTrial], trial: RayTrial, **info: Any) -> None:
        self.search.ended(trial.config["trial"], "stopped", "behind the others")
        actor = trial.temporary_state.ray_actor
        if actor is not None:
            # Before Ray Tune keeps the actor for the next trial, or lets it wait for one: the workers go back now.
            actor.release.remote()


def _cause(trial: RayTrial) -> str:
    """The last line of what killed it."""
    return last_line(trial.get_error(), "its process died")
