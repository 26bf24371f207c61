"""What the step that was just made calls for: an evaluation, a checkpoint, the end."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from distmed.train.job import Job
    from distmed.train.state import RunState


@dataclass(frozen=True)
class Due:
    """`state` is the run's own, which goes on; `sequences` are all that the stream has."""

    job: Job
    state: RunState
    sequences: int

    def end(self) -> bool:
        return self.state.step >= self.job.total_steps or self.state.k >= self.sequences

    def evaluation(self) -> bool:
        """Not twice after one step: a run that goes on may have made it before its checkpoint."""
        at_its_step = self.state.step % self.job.eval_every == 0 or self.end()
        return self.job.eval_plan is not None and at_its_step and self.state.evaluated < self.state.step

    def checkpoint(self) -> bool:
        return self.state.step % self.job.checkpoint_every == 0
