"""The table of trials: `trials.parquet` and `trials.csv`, one row a trial, written again whenever it is asked for."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from distmed.tune.search import Search


def rows(search: Search) -> list[dict[str, Any]]:
    """One row a trial: id, state, cause, point, repeat, knobs (by key), metric, its step, steps, seconds, retries."""
    found = []
    for trial in search.trials:
        best = trial.best(search.mode)
        found.append(
            {
                "trial": trial.number,
                "state": trial.state,
                "point": trial.point,
                "repeat": trial.repeat,
                "metric": best.value if best else None,
                "best_step": best.step if best else None,
                "steps": trial.step,
                "seconds": round(trial.seconds, 1),
                "accelerator_hours": round(trial.accelerator_seconds / 3600, 5),
                "retries": trial.retries,
                "cause": trial.cause,
                **{key: _cell(trial.setting.get(key)) for key in search.space.order},
            }
        )
    return found


def write_tables(search: Search) -> None:
    """Write both files; a reader sees the old or the new one, never a half."""
    import pandas as pd

    frame = pd.DataFrame(rows(search))
    for name, write in (("trials.csv", frame.to_csv), ("trials.parquet", frame.to_parquet)):
        path = search.plan.run / name
        partial = path.with_name(name + ".partial")
        write(partial, index=False)
        partial.replace(path)


def _cell(value: Any) -> Any:
    return json.dumps(value) if isinstance(value, list | dict) else value
