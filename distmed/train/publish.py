"""An exported model is reloaded by transformers alone and compared before it is called done.

A run's probe and its exported folder flow in; the largest difference between its logits and those seen in training flows out.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from distmed.rundir import RunDir

# What float32 and bf16 leave between two orders of the same sums, relative to the largest logit.
TOLERANCE = {"float32": 1e-4, "bf16": 3e-2}


def compare(run: RunDir, step: int) -> float | None:
    """The largest difference between logits probed in training at `step` and those of `model/` in transformers alone.

    None if nothing was probed at that step. Raises RuntimeError if precision does not explain it.
    """
    if not run.probe.exists():
        return None
    probe: dict[str, Any] = torch.load(run.probe, weights_only=True)
    if probe["step"] != step:
        return None
    logits = _plain_logits(run.model, probe)
    difference = max((mine - plain).abs().max().item() for mine, plain in zip(probe["logits"], logits, strict=True))
    largest = max(mine.abs().max().item() for mine in probe["logits"])
    if not difference <= TOLERANCE[probe["dtype"]] * max(largest, 1.0):
        raise RuntimeError(f"the exported model's logits differ from the trained model's by {difference:.3g}")
    return difference


@torch.no_grad()
def _plain_logits(folder: Path, probe: dict[str, Any]) -> list[Tensor]:
    import transformers

    name = "AutoModelForSequenceClassification" if probe["task"] == "classify" else "AutoModelForCausalLM"
    model = getattr(transformers, name).from_pretrained(str(folder)).eval()
    logits = [model(input_ids=ids[None]).logits[0].float() for ids in probe["input_ids"]]
    if probe["task"] == "classify":
        return logits
    return [logits_LV[at] for logits_LV, at in zip(logits, probe["positions"], strict=True)]
