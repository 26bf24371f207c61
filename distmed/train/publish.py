"""A checkpoint becomes the model of its run: exported, held against what was trained, with its card.

A job, one of its checkpoints and the evaluation that it is taken for flow in; `model/` flows out.
"""

from __future__ import annotations

from typing import Any

from distmed.checkpoint.card import card
from distmed.checkpoint.folder import parse
from distmed.checkpoint.publish import export_checkpoint
from distmed.train.job import Job
from distmed.train.probe import NoRoomError, compare


def publish(job: Job, checkpoint: str, best: dict[str, Any] | None, metrics: dict[str, float]) -> str | None:
    """Export into the run's `model/`, hold it against the logits of training, write its card; what that comparison says.

    `best`: the evaluation of these weights, by `step` and `value`; None where none chose them, and nothing is compared.
    """
    export_checkpoint(checkpoint, job.run.model)
    told = _compared(job, best["step"]) if best else None
    cases = job.cases()
    name = parse(checkpoint.rpartition("/")[2])
    text = card(
        job.recipe,
        labels=len(job.labels),
        best=best,
        metrics=metrics,
        train_cases=cases["train"],
        eval_cases=cases["eval"],
        step=name.step if name else None,
    )
    (job.run.model / "README.md").write_text(text, encoding="utf-8")
    return told


def _compared(job: Job, step: int) -> str | None:
    try:
        difference = compare(job.run, step, trust_remote_code=job.recipe.model.trust_remote_code)
    except NoRoomError as error:
        return f"the exported model was not compared with the trained one: {error}"
    if difference is None:
        return None
    return f"exported model reloaded by transformers: logits within {difference:.1e} of the trained model's"
