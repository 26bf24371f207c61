"""The card of a finished run, written into its exported model."""

from __future__ import annotations

from typing import Any

from distmed.checkpoint.card import card
from distmed.train.job import Job


def write_card(job: Job, summary: dict[str, Any]) -> None:
    """Write `README.md` into the exported folder."""
    text = card(
        job.recipe,
        labels=len(job.labels),
        best=summary["best"],
        metrics=summary["eval"],
        train_cases=[manifest.rows for manifest in job.train_plan.manifests],
        eval_cases=[manifest.rows for manifest in job.eval_plan.manifests] if job.eval_plan else None,
    )
    (job.run.model / "README.md").write_text(text, encoding="utf-8")
