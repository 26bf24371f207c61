"""Publishing a model: a checkpoint exported as a plain Hugging Face folder, reloaded and compared before it is called done.

A checkpoint folder flows in; a folder that transformers opens without distmed, and the largest difference between its logits
and those seen in training, flow out.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from distmed.checkpoint.export import export
from distmed.checkpoint.read import Checkpoint
from distmed.errors import UserError
from distmed.model.load import load_tokenizer
from distmed.rundir import RunDir

# What float32 and bf16 leave between two orders of the same sums, relative to the largest logit.
TOLERANCE = {"float32": 1e-4, "bf16": 3e-2}


def export_checkpoint(checkpoint: str | Path, out: Path) -> None:
    """Write weights, config with the labels, tokenizer with its chat template; the checkpoint itself knows all of them.

    Raises UserError for a damaged checkpoint, a base folder that is gone, or a full disk.
    """
    with Checkpoint(checkpoint) as opened:
        model = opened.markers[0].state["model"]
    base = Path(model["folder"])
    if not base.is_dir():
        raise UserError(
            f"the base model is no longer at {base}", "put it back there: config and tokenizer come from it"
        )
    export(checkpoint, out, base, dtype=model["dtype"], config=model["config"], lora_scale=model["lora_scale"])
    load_tokenizer(base).save_pretrained(str(out))


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
