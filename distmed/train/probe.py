"""The probe: token ids and logits of a few eval cases, kept at the best evaluation, to hold an export against them."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

if TYPE_CHECKING:
    from distmed.stream.batch import MicroBatch

CASES = 8
# Logits over a large vocabulary are large; a few cases show as well whether the weights are the same.
GENERATED_CASES = 2


def take(batch: MicroBatch, logits: Tensor, task: str) -> dict[str, Any]:
    """The first cases of a micro-batch as they would be alone: ids, logits, and for generate the positions of the logits."""
    ids_N = batch.input_ids_BL.flatten().cpu()
    spans = list(zip(batch.case_first_C.tolist(), batch.case_last_C.tolist(), strict=True))
    spans = spans[: CASES if task == "classify" else GENERATED_CASES]
    probe: dict[str, Any] = {"task": task, "input_ids": [ids_N[first : last + 1] for first, last in spans]}
    if task == "classify":
        return {**probe, "logits": list(logits[: len(spans)].float().cpu())}
    assert batch.target_index_T is not None
    index_T = batch.target_index_T.cpu()
    inside = [(index_T >= first) & (index_T <= last) for first, last in spans]
    logits_TV = logits.float().cpu()
    return {
        **probe,
        "logits": [logits_TV[which] for which in inside],
        "positions": [index_T[which] - first for which, (first, _) in zip(inside, spans, strict=True)],
    }


def to_bytes(probe: dict[str, Any]) -> bytes:
    buffer = io.BytesIO()
    torch.save(probe, buffer)
    return buffer.getvalue()
