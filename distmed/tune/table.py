"""The table of trials: `trials.parquet` and `trials.csv`, one row a trial, written again whenever it is asked for."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from distmed.credentials import without_credentials

if TYPE_CHECKING:
    from distmed.tune.search import Search
    from distmed.tune.space import Space


def rows(search: Search) -> list[dict[str, Any]]:
    """One row a trial: id, state, cause, point, repeat, knobs (by key), metric, its step, steps, seconds, retries."""
    found = []
    mixed = {key for key in search.space.order if _is_mixed(search.space, key)}
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
                **{key: _cell(trial.setting.get(key), as_text=key in mixed) for key in search.space.order},
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


def _is_mixed(space: Space, key: str) -> bool:
    """Whether a knob has values of several types, as false and offload; a column of Parquet or of W&B has one."""
    settings = (space.untuned, *space.initial)
    values = [*(space.knobs[key].choice or [0.0]), *(setting.get(key) for setting in settings)]
    kinds = {type(_cell(value)) for value in values if value is not None}
    return len({float if kind is int else kind for kind in kinds}) > 1


def _cell(value: Any, *, as_text: bool = False) -> Any:
    value = without_credentials(value)
    is_plain = value is None or isinstance(value, str) or not (as_text or isinstance(value, list | dict))
    return value if is_plain else json.dumps(value)
