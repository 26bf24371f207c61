"""The probe: token ids and logits of a few eval cases, kept at the best evaluation, to hold an export against them.

A micro-batch of training flows in; the largest difference to what transformers alone makes of the exported folder flows out.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from distmed.rundir import RunDir

if TYPE_CHECKING:
    from distmed.stream.batch import MicroBatch

CASES = 8
# Logits over a large vocabulary are large; a few cases show as well whether the weights are the same.
GENERATED_CASES = 2
# What float32 and bf16 leave between two orders of the same sums, relative to the largest logit.
TOLERANCE = {"float32": 1e-4, "bf16": 3e-2}


def take(batch: MicroBatch, answer: Callable[[MicroBatch], Tensor]) -> dict[str, Any]:
    """The first cases of a micro-batch as they would be alone: ids, logits, and for generate the positions of the logits.

    `answer` gives the logits of a micro-batch; it is called once, on every worker, since under ZeRO-3 all run equally many
    passes. To generate, it is asked for no targets but those of these cases.
    """
    ids_N = batch.input_ids_BL.flatten()
    spans = list(zip(batch.case_first_C.tolist(), batch.case_last_C.tolist(), strict=True))
    if batch.target_index_T is None or batch.target_ids_T is None:
        spans = spans[:CASES]
        logits_CK = answer(batch)[: len(spans)].float().cpu()
        return {"task": "classify", "input_ids": _each(ids_N, spans), "logits": list(logits_CK)}
    spans = spans[:GENERATED_CASES]
    of_case_T = torch.full_like(batch.target_index_T, -1)
    for number, (first, last) in enumerate(spans):
        of_case_T[(batch.target_index_T >= first) & (batch.target_index_T <= last)] = number
    asked_T = of_case_T >= 0
    index_S, of_case_S = batch.target_index_T[asked_T], of_case_T[asked_T]
    logits_SV = answer(replace(batch, target_index_T=index_S, target_ids_T=batch.target_ids_T[asked_T])).float().cpu()
    return {
        "task": "generate",
        "input_ids": _each(ids_N, spans),
        "logits": [logits_SV[of_case_S == number] for number in range(len(spans))],
        "positions": [index_S[of_case_S == number] - first for number, (first, _) in enumerate(spans)],
    }


def _each(ids_N: Tensor, spans: list[tuple[int, int]]) -> list[Tensor]:
    return [ids_N[first : last + 1] for first, last in spans]


def to_bytes(probe: dict[str, Any]) -> bytes:
    buffer = io.BytesIO()
    torch.save(probe, buffer)
    return buffer.getvalue()


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
