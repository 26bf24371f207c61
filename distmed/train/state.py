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
    """`step` counts optimizer steps, `k` is the stream's position, `tokens` the real tokens seen."""

    step: int = 0
    k: int = 0
    tokens: int = 0
    best: Best | None = None
    evaluation: dict[str, float] = field(default_factory=dict)

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
        )
