"""calibration.json: what an evaluation with a calibration split leaves for `distmed predict`.

What was learned flows in, with the model it was learned for; it flows out again for that model alone.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import BaseModel, Field, ValidationError

from distmed.errors import UserError

if TYPE_CHECKING:
    from distmed.evaluate.learned import Learned
    from distmed.evaluate.loading import Opened

CALIBRATION = "calibration.json"


class Calibration(BaseModel):
    """How sure the model is, when it abstains, and what a generator may answer. `model`: its hash; the thresholds are those of
    `abstention.Thresholds`."""

    version: int = 1
    model: str
    temperature: float = Field(gt=0, allow_inf_nan=False)
    coverage_80: float
    coverage_90: float
    risk_5: float | None
    quantile: float | None
    fitted_on: int
    labels: list[str]
    label_names: list[str]

    @classmethod
    def of(cls, opened: Opened, learned: Learned) -> Calibration:
        return cls.model_validate(
            {
                "model": opened.hash,
                "temperature": learned.temperature,
                **learned.thresholds.to_dict(),
                "labels": opened.labels,
                "label_names": opened.label_names,
            }
        )

    @classmethod
    def read(cls, path: Path, opened: Opened) -> Calibration:
        """`path`: the file, or the folder of an evaluation. Raises UserError, also where it was learned for another model."""
        path = path / CALIBRATION if path.is_dir() else path
        how = "name the folder of `distmed evaluate … --calibration SPLIT`"
        try:
            values = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise UserError(f"no calibration at {path}", how) from error
        if isinstance(values, dict) and "model" in values and values["model"] != opened.hash:
            raise UserError(f"{path} was learned for another model", how)
        try:
            return cls.model_validate(values)
        except ValidationError as error:
            raise UserError(f"{path} is no calibration", how) from error
