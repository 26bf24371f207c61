"""The winner: chosen by the eval split alone, written as a recipe and a model, and scored once on the test split.

The trials of a search flow in; `best.yaml`, `best/`, `summary.json`, the table, the report and the closing lines flow out.
"""

from __future__ import annotations

import json
import shutil
import statistics
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from distmed.checkpoint import folder as folders
from distmed.credentials import without_credentials
from distmed.evaluate.figure import limits_to_read
from distmed.recipe import Recipe
from distmed.rundir import RunDir
from distmed.tune.copying import link
from distmed.tune.display import setting_text
from distmed.tune.record import Evaluation, Trial, as_loss
from distmed.tune.space import Setting
from distmed.tuning import Change

if TYPE_CHECKING:
    from distmed.train.job import Job
    from distmed.train.progress import Progress
    from distmed.tune.search import Search

WINNERS = "winners.json"


@dataclass(frozen=True)
class Rank:
    """A setting over its seeds. `sd` is None where there is one seed."""

    point: int
    setting: Setting
    mean: float
    sd: float | None
    trials: list[int]


def ranking(trials: list[Trial], *, mode: str, seeds: int) -> list[Rank]:
    """Settings by the mean of their trials' best values, the best first; those with all their seeds before the others."""
    points: dict[int, list[tuple[Trial, float]]] = {}
    for trial in trials:
        best = trial.best(mode)
        if best is not None:
            points.setdefault(trial.point, []).append((trial, best.value))
    ranks = [
        Rank(
            point,
            found[0][0].setting,
            statistics.fmean(value for _, value in found),
            statistics.stdev(value for _, value in found) if len(found) > 1 else None,
            [trial.number for trial, _ in found],
        )
        for point, found in points.items()
    ]
    return sorted(ranks, key=lambda rank: (len(rank.trials) < seeds, as_loss(rank.mean, mode), rank.point))


@dataclass(frozen=True)
class Chosen:
    """A trial, the evaluation that it is taken for, its run directory and the checkpoint of that evaluation."""

    trial: Trial
    evaluation: Evaluation
    run: RunDir
    recipe: Recipe
    checkpoint: str

    @property
    def sign(self) -> str:
        """What tells this model from that of another trial, or of another step."""
        return f"trial {self.trial.number} step {self.evaluation.step}"


def conclude(search: Search, job: Job, progress: Progress) -> None:
    """Choose the winner and write all that a search leaves behind."""
    from distmed.tune.report import write_report
    from distmed.tune.table import write_tables
    from distmed.tune.tracking import track

    run = search.plan.run
    ranks = ranking(search.trials, mode=search.mode, seeds=search.tune.seeds)
    winner = ranks[0]
    setting = without_credentials(winner.setting)
    best_recipe = recipe_of_winner(search, winner)
    best_recipe.write(run / "best.yaml")
    chosen = _chosen(search, winner.trials[0])
    summary: dict[str, Any] = {
        "metric": search.plan.metric,
        "mode": search.mode,
        "best": {"value": winner.mean, "sd": winner.sd, "trials": winner.trials, "setting": setting},
        "untuned": _untuned(search, ranks),
        "trials": {
            state: sum(trial.state == state for trial in search.trials)
            for state in ("done", "stopped", "failed", "waiting")
        },
        "ended_by": search.closed or None,
        "seconds": round(search.seconds(), 1),
        "accelerator_hours": round(search.accelerator_hours(), 4),
    }
    if chosen is None:
        progress.note("the winner has no whole checkpoint: train it by best.yaml")
    else:
        with progress.phase("exporting the winner"):
            _export(chosen, job, run / "best")
        summary["best"]["step"] = chosen.evaluation.step
        summary["test"] = _test(search, chosen, job, progress)
    # Once more for all: a trial that was stopped may have written to its last checkpoint when it was taken away.
    search.pruned.clear()
    search.prune(keep={winner.trials[0]})
    write_tables(search)
    run.summary.write_text(json.dumps(summary, indent=2) + "\n", encoding="utf-8")
    report = write_report(search, summary)
    track(search, summary)
    _tell(search, ranks, summary, report, progress)


def recipe_of_winner(search: Search, winner: Rank) -> Recipe:
    """A complete recipe, which `distmed train` takes as it is; with the schedule, where the winner was a copy."""
    phases = search.record.trials[winner.trials[0]].phases
    recipe = search.space.recipe_of(phases[0].setting)
    changes = [Change(step=phase.step, set=phase.setting) for phase in phases[1:]]
    return recipe.model_copy(
        update={
            "changes": [*recipe.changes, *changes],
            "name": f"{search.plan.run.name}-best",
            "tune": None,
            "checkpoint": recipe.checkpoint.model_copy(update={"best": search.plan.metric}),
        }
    )


def _untuned(search: Search, ranks: list[Rank]) -> dict[str, Any] | None:
    """What the recipe's own setting reached; None where it gave nothing, or went on as a copy."""
    if not any(trial.point == 0 and trial.clones == 0 for trial in search.trials):
        return None
    return next(({"value": rank.mean, "sd": rank.sd, "trials": rank.trials} for rank in ranks if rank.point == 0), None)


def _chosen(search: Search, number: int) -> Chosen | None:
    """The best evaluation of a trial that left a whole checkpoint: one that was ended at once may lack its last."""
    trial = search.record.trials[number]
    run, recipe = search.place(number)
    root = folders.checkpoint_root(recipe, run)
    for evaluation in sorted(trial.own_evaluations, key=lambda each: (as_loss(each.value, search.mode), each.step)):
        checkpoint = folders.at_step(root, evaluation.step)
        if checkpoint is not None:
            return Chosen(trial, evaluation, run, recipe, checkpoint)
    return None


def _export(chosen: Chosen, job: Job, out: Path | None) -> None:
    """Into the trial's own `model/`, checked against the logits seen in training; `out` becomes the same folder by links."""
    from distmed.train.publish import publish

    of_trial, found = replace(job, recipe=chosen.recipe, run=chosen.run), chosen.evaluation
    publish(of_trial, chosen.checkpoint, {"step": found.step, "value": found.value}, found.metrics)
    if out is not None:
        shutil.rmtree(out, ignore_errors=True)
        shutil.copytree(chosen.run.model, out, copy_function=link)


def _test(search: Search, chosen: Chosen, job: Job, progress: Progress) -> list[dict[str, Any]]:
    """The figures on each test source: the winner's, and what they differ by from the untuned recipe's, with intervals."""
    sources = search.plan.recipe.data.test
    if not sources:
        return []
    from distmed.evaluate.command import WORK, Request, evaluate
    from distmed.prepare.open import open_source

    own = next((trial.number for trial in search.trials if trial.point == trial.repeat == trial.clones == 0), None)
    untuned = _chosen(search, own) if own is not None and own != chosen.trial.number else None
    if untuned is not None:
        _export(untuned, job, None)
    found = []
    for number, source in enumerate(sources):
        out = search.plan.run / "test" / str(number)
        winners = _begun(out, chosen.sign)
        # Its figures may be there before it has ended; what it scored case by case goes last.
        if (out / WORK).exists() or not (out / "metrics.json").is_file():
            cases = open_source(source, search.plan.run.data)
            request = Request(
                str(chosen.run.path),
                str(cases.folder),
                out,
                against=str(untuned.run.path) if untuned else None,
                num_workers=search.workers,
            )
            with progress.phase(f"scoring the test split {number}"):
                if evaluate(request):
                    raise KeyboardInterrupt
        if len(winners) > 1:
            progress.note(f"the test split {number} has been scored for {len(winners)} winners of this search")
        metrics = json.loads((out / "metrics.json").read_text(encoding="utf-8"))
        name = "nll" if search.plan.metric == "eval/loss" else search.plan.metric.removeprefix("diag/")
        # The figure of the untuned recipe, and the paired difference with its interval.
        against = (metrics.get("comparison") or [{}])[0].get("figures", {}).get(name)
        against = against if against and against["difference"]["value"] is not None else None
        figures = {"winner": metrics.get(name), "against_untuned": against, "scored": len(winners)}
        found.append({"source": without_credentials(source.source), "metric": name, **figures})
    return found


def was_scored(out: Path) -> bool:
    """Whether a test split gave figures: for this winner, or for one before it whose figures are gone."""
    return len(_winners(out)) > 1 or (out / "metrics.json").is_file()


def _begun(out: Path, sign: str) -> list[str]:
    """The winners, this one the last; nothing that was scored for another is left in `out`."""
    winners = _winners(out)
    if winners[-1:] != [sign]:
        out.mkdir(parents=True, exist_ok=True)
        # First this, then the sign: killed in between, it is done again.
        for left in out.iterdir():
            if left.is_dir():
                shutil.rmtree(left)
            elif left.name != WINNERS:
                left.unlink()
        winners.append(sign)
        partial = out / f"{WINNERS}.partial"
        partial.write_text(json.dumps(winners) + "\n", encoding="utf-8")
        partial.replace(out / WINNERS)
    return winners


def _winners(out: Path) -> list[str]:
    """For whom scoring a test split began: more than one only where a search went on and found a better one."""
    path = out / WINNERS
    return list(json.loads(path.read_text(encoding="utf-8"))) if path.is_file() else []


def _tell(search: Search, ranks: list[Rank], summary: dict[str, Any], report: Path, progress: Progress) -> None:
    winner, untuned = ranks[0], summary["untuned"]
    spread = f" ± {winner.sd:.4f}" if winner.sd is not None else ""
    found = f"{search.plan.metric} {winner.mean:.4f}{spread}"
    progress.note(f"best {found}: trial {winner.trials[0]}, {setting_text(winner.setting)}")
    if untuned is not None:
        progress.note(f"the recipe as it was: {untuned['value']:.4f}")
    for test in summary.get("test", []):
        figure = test["winner"] or {}
        if figure.get("value") is not None:
            progress.note(f"test {test['metric']} {figure['value']:.4f}{_interval(figure, '.4f')}, {test['source']}")
        if test["against_untuned"]:
            other, change = test["against_untuned"]["other"], test["against_untuned"]["difference"]
            spread = _interval(change, "+.4f")
            progress.note(f"the recipe as it was: {other:.4f}; paired difference {change['value']:+.4f}{spread}")
    run = search.plan.run
    for name, path in {"recipe": run / "best.yaml", "model": run / "best", "report": report}.items():
        progress.note(f"{name:<7} {path}")


def _interval(figure: dict[str, Any], form: str) -> str:
    """Empty where there is none: a test split that is one group."""
    low, high = limits_to_read(figure)
    return "" if low is None or high is None else f" [{low:{form}}, {high:{form}}]"
