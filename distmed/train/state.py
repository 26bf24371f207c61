"""Where a run stands: the few numbers that a checkpoint holds beside the weights, and from which everything else follows."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from distmed.stream.batch import Step


@dataclass
class Best:
    """The best evaluation so far, at which step, and the logits of a few of its cases to compare an export with."""

    value: float
    step: int


@dataclass
class RunState:
    """`step` counts optimizer steps, `k` is the stream's position, `tokens` the real tokens seen.

    `evaluation`: the last one, after step `evaluated`. `judged_by`: the metric that `best` is a value of.
    """

    step: int = 0
    k: int = 0
    tokens: int = 0
    best: Best | None = None
    evaluation: dict[str, float] = field(default_factory=dict)
    evaluated: int = 0
    judged_by: str = ""

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
        )

    def judge_by(self, metric: str) -> str | None:
        """What there is to say if `best` is a value of another metric: it is no measure any more."""
        if self.best is None or self.judged_by in ("", metric):
            return None
        self.best = None
        return f"checkpoint.best is {metric} now and was {self.judged_by}: the best is sought anew"
