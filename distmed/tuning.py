"""The `tune:` block of a recipe: what varies, what is sought, and what the search may spend.

Values of a YAML file flow in, a checked `Tune` flows out. Whether its keys fit the recipe around it, `distmed tune` asks.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field, PositiveInt, model_validator

Positive = Annotated[float, Field(gt=0)]


class Knob(BaseModel, extra="forbid", frozen=True):
    """What one recipe key varies over: exactly one of the four kinds."""

    uniform: tuple[float, float] | None = Field(None, description="Any number from low to high.")
    loguniform: tuple[Positive, Positive] | None = Field(
        None, description="Any number from low to high, each order of magnitude as likely as the next."
    )
    randint: tuple[int, int] | None = Field(None, description="A whole number from low to high, both included.")
    choice: list[Any] | None = Field(None, description="One of these values.")
    when: dict[str, Any] = Field(
        {}, description="Vary only where another knob has this value, or one of a list; else the recipe's own holds."
    )

    @model_validator(mode="after")
    def _one_kind(self) -> Knob:
        kinds = [kind for kind in (self.uniform, self.loguniform, self.randint, self.choice) if kind is not None]
        if len(kinds) != 1:
            raise ValueError("a knob has exactly one of uniform, loguniform, randint and choice")
        if self.choice is None and kinds[0][0] >= kinds[0][1]:
            raise ValueError("low must lie below high")
        return self


CHANGEABLE = (
    "optimizer.lr",
    "optimizer.head_lr",
    "optimizer.weight_decay",
    "train.label_smoothing",
    "train.focal_gamma",
)
"""What may change in the middle of a run: neither the model, nor the data, nor their order."""


class Change(BaseModel, extra="forbid", frozen=True):
    """Other values from the step after `step` on."""

    step: PositiveInt = Field(description="The last step before the change.")
    set: dict[str, Any] = Field(description="The new values by key, for example {optimizer.lr: 1e-4}.")

    @model_validator(mode="after")
    def _changeable(self) -> Change:
        for key in self.set:
            if key not in CHANGEABLE:
                raise ValueError(f"{key} cannot change in the middle of a run; {', '.join(CHANGEABLE)} can")
        return self


class Tune(BaseModel, extra="forbid", frozen=True):
    space: dict[str, Knob] = Field(description="Which recipe keys vary (dotted paths), and over what.")
    metric: str | None = Field(None, description="What is sought, any diag/* or eval/*; null: checkpoint.best.")
    mode: Literal["min", "max"] | None = Field(None, description="Which end is better; null: as the metric has it.")
    search: Literal["random", "optuna", "grid"] = Field(
        "optuna", description="How settings are proposed; optuna: TPE (Bergstra et al. 2011)."
    )
    scheduler: Literal["none", "asha", "median", "pbt"] = Field(
        "asha",
        description="Who is stopped early: asha (arXiv:1810.05934), median (Vizier), or pbt: copied (arXiv:1711.09846).",
    )
    trials: PositiveInt | None = Field(
        None, description="Settings to try, the recipe's own first; null: 20, or the grid."
    )
    initial: list[dict[str, Any]] = Field([], description="Settings to try after the recipe's own, before the search.")
    seeds: PositiveInt = Field(1, description="Runs of each setting, train.seed and those after it; their mean ranks.")
    seed: Annotated[int, Field(ge=0)] | None = Field(None, description="Seed of the search; null: train.seed.")
    concurrency: PositiveInt | None = Field(
        None, description="Trials at once; null: as many as the cluster has room for."
    )
    time_s: Positive | None = Field(None, description="The search ends after so many seconds.")
    accelerator_hours: Positive | None = Field(
        None, description="The search ends when workers × hours of all trials reach this; a worker is a GPU, or a CPU."
    )
    grace: PositiveInt = Field(1, description="Evaluations of a trial before asha or median may stop it.")
    reduction: Annotated[int, Field(ge=2)] = Field(4, description="asha keeps one in so many at each rung.")
    exploit_every: PositiveInt = Field(1, description="pbt: evaluations between two looks at who copies whom.")
    quantile: Annotated[float, Field(gt=0, le=0.5)] = Field(
        0.25, description="pbt: the worst so many copy the best so many."
    )
    retries: Annotated[int, Field(ge=0)] = Field(
        1, description="How often a trial that died goes on from its checkpoint."
    )
