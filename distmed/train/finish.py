"""What comes out of a run: the exported model, compared with what was trained, its card, the summary and the closing table.

The best complete checkpoint (the newest where nothing was evaluated) flows in; `model/`, `summary.json` and a table on the
terminal flow out. No worker is needed any more.
"""

from __future__ import annotations

import json
from typing import Any

from distmed.checkpoint import folder as folders
from distmed.errors import UserError
from distmed.evaluate.floor import linear_floor, majority_floor
from distmed.rundir import RunDir
from distmed.train.job import Job
from distmed.train.progress import Progress
from distmed.train.publish import publish


def finish(job: Job, result: dict[str, Any], *, wall_s: float, restarts: int, progress: Progress) -> dict[str, Any]:
    """Write summary.json, then export, compare and describe the model; the summary."""
    state, speed = result["state"], result["speed"]
    summary: dict[str, Any] = {
        "steps": state["step"],
        "tokens": state["tokens"],
        "tokens_per_s": speed["tokens_per_s"],
        "mfu": speed["mfu"],
        "device_peak_gib": speed["device_peak_gib"],
        "host_peak_gib": speed["host_peak_gib"],
        "wall_s": round(wall_s, 1),
        "restarts": restarts,
        "eval": state["evaluation"],
        "best": state["best"],
        "warm_up_s": speed["warm_up_s"],
        "data_wait_s": speed["data_wait_s"],
        "checkpoint_stall_s": speed["checkpoint_stall_s"],
    }
    if speed["tokens_per_s"] is None and job.run.summary.exists():
        # No step was made: what an earlier start of this run measured stays.
        earlier = json.loads(job.run.summary.read_text(encoding="utf-8"))
        summary |= {name: earlier.get(name) for name in ("wall_s", "restarts", *speed)}
    _write(job.run, summary)
    if result["stopped"]:
        progress.note(f"stopped after step {state['step']} with a checkpoint saved; go on with --resume")
        return summary
    with progress.phase("exporting the model"):
        told = publish(job, *chosen(job, state["best"], progress), state["evaluation"])
    if told is not None:
        progress.note(told)
    floors: dict[str, dict[str, float]] = {}
    if job.recipe.train.linear_floor and job.eval_plan is not None:
        with progress.phase("fitting the linear floor"):
            floors = _floors(job)
        summary["floors"] = floors
        _write(job.run, summary)
    progress.final_table(
        summary, floors, {"model": job.run.model, "metrics": job.run.metrics, "summary": job.run.summary}
    )
    return summary


def _write(run: RunDir, summary: dict[str, Any]) -> None:
    run.summary.write_text(json.dumps(summary, indent=2) + "\n", encoding="utf-8")


def chosen(job: Job, best: dict[str, Any] | None, progress: Progress) -> tuple[str, dict[str, Any] | None]:
    """The checkpoint to export, and the evaluation that chose it: none where that of the best is gone, and the newest goes."""
    if best is not None:
        found = folders.at_step(job.checkpoints, best["step"])
        if found is not None:
            return found, best
        progress.note(f"the checkpoint of the best evaluation, step {best['step']}, is gone: exporting the newest")
    newest, _ = folders.newest_complete(job.checkpoints)
    if newest is None:
        raise UserError(f"no complete checkpoint in {job.checkpoints}", f"see {job.run.log}, then go on with --resume")
    return newest, None


def _floors(job: Job) -> dict[str, dict[str, float]]:
    """What a line reaches on the same cases, and what always naming the commonest label reaches."""
    from distmed.train.cases import numbered_cases

    assert job.eval_plan is not None
    train, evaluation = ([case for _, case in numbered_cases(plan)] for plan in (job.train_plan, job.eval_plan))
    return {"linear": linear_floor(train, evaluation), "majority": majority_floor(train, evaluation)}
