"""Where a run stands: the few numbers that a checkpoint holds beside the weights, and from which everything else follows."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from distmed.stream.batch import Step
    from distmed.train.job import Job


@dataclass
class Best:
    """The best evaluation so far, and the step it was made at."""

    value: float
    step: int


@dataclass
class RunState:
    """`step` counts optimizer steps, `k` is the stream's position, `tokens` the real tokens seen.

    `evaluation`: the last one, after step `evaluated`. `judged_by`: the metric that `best` is a value of; `judged_on`: the
    hash of the cases. Both are empty where an earlier version did not keep them.
    """

    step: int = 0
    k: int = 0
    tokens: int = 0
    best: Best | None = None
    evaluation: dict[str, float] = field(default_factory=dict)
    evaluated: int = 0
    judged_by: str = ""
    judged_on: str = ""

    def advance(self, step: Step) -> None:
        self.step += 1
        self.k = step.next_k
        self.tokens += step.tokens

    def to_dict(self) -> dict[str, Any]:
        return {
            "step": self.step,
            "k": self.k,
            "tokens": self.tokens,
            "best": None if self.best is None else {"value": self.best.value, "step": self.best.step},
            "evaluation": self.evaluation,
            "evaluated": self.evaluated,
            "judged_by": self.judged_by,
            "judged_on": self.judged_on,
        }

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> RunState:
        best = values["best"]
        return cls(
            step=values["step"],
            k=values["k"],
            tokens=values["tokens"],
            best=Best(**best) if best else None,
            evaluation=values["evaluation"],
            evaluated=values.get("evaluated", values["step"]),
            judged_by=values.get("judged_by", ""),
            judged_on=values.get("judged_on", ""),
        )

    def judge_by(self, metric: str, cases: str) -> str | None:
        """What there is to say if `best` is a value of another metric, or of other cases: it is no measure any more."""
        if self.best is None:
            return None
        if self.judged_by not in ("", metric):
            said = f"checkpoint.best is {metric} now and was {self.judged_by}"
        elif self.judged_on not in ("", cases):
            said = f"data.eval has other cases now than those of the best {metric}"
        else:
            return None
        self.best = None
        return f"{said}: the best is sought anew"


def eval_cases(job: Job) -> str:
    """The hash of the cases that checkpoints are judged on, empty where there are none."""
    return str(job.eval_plan.identity["data manifest"]) if job.eval_plan else ""
