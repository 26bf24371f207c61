"""Job: all that a worker needs to know, made once by the driver and small enough to be sent to each of them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from distmed.checkpoint.folder import checkpoint_root
from distmed.recipe import Recipe
from distmed.rundir import RunDir

if TYPE_CHECKING:
    from distmed.stream.stream import StreamPlan


@dataclass(frozen=True)
class Job:
    """`labels` are the classes in the order of the head; `total_steps` and the two intervals are in optimizer steps."""

    recipe: Recipe
    run: RunDir
    model_folder: Path
    model_hash: str
    labels: list[str]
    label_names: list[str]
    train_plan: StreamPlan
    eval_plan: StreamPlan | None
    total_steps: int
    eval_every: int
    checkpoint_every: int
    bf16: bool
    hidden_size: int

    @property
    def checkpoints(self) -> str:
        return checkpoint_root(self.recipe, self.run)

    def cases(self) -> dict[str, list[int] | None]:
        """Numbers of cases by source, of training and of evaluation, in the recipe's order."""
        return {
            "train": [manifest.rows for manifest in self.train_plan.manifests],
            "eval": [manifest.rows for manifest in self.eval_plan.manifests] if self.eval_plan else None,
        }
