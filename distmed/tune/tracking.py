"""The search on W&B: one run beside those of the trials, in their group, with the table of trials and the final figures."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from distmed.train.tracking import Tracker
from distmed.tune.table import rows

if TYPE_CHECKING:
    from distmed.tune.search import Search


class SearchTracker(Tracker):
    """A tracker that logs no steps."""

    def log_trials(self, found: Sequence[dict[str, Any]]) -> None:
        """The table of trials. Why one failed may name cases, and stays here."""

        def log(run: Any) -> None:
            import wandb

            columns = [name for name in found[0] if name != "cause"]
            table = wandb.Table(columns=list(columns), data=[[row[name] for name in columns] for row in found])
            run.log({"trials": table})

        self._to_wandb(log)


def track(search: Search, summary: dict[str, Any]) -> None:
    """Log the table and close the run."""
    recipe = search.plan.recipe
    group = recipe.tracking.group or search.plan.run.name
    tracker = SearchTracker(
        recipe.model_copy(update={"tracking": recipe.tracking.model_copy(update={"group": group})}), search.plan.run
    )
    tracker.log_trials(rows(search))
    tracker.finish({"best": summary["best"]["value"], "accelerator_hours": summary["accelerator_hours"]})
