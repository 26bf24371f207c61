"""The card of a finished run, written into its exported model."""

from __future__ import annotations

from typing import Any

from distmed.checkpoint.card import card
from distmed.train.job import Job


def write_card(job: Job, summary: dict[str, Any]) -> None:
    """Write `README.md` into the exported folder."""
    cases = job.cases()
    text = card(
        job.recipe,
        labels=len(job.labels),
        best=summary["best"],
        metrics=summary["eval"],
        train_cases=cases["train"],
        eval_cases=cases["eval"],
    )
    (job.run.model / "README.md").write_text(text, encoding="utf-8")
