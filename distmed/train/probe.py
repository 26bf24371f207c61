"""The probe: token ids and logits of a few eval cases, kept at the best evaluation, to hold an export against them.

A micro-batch of training flows in; the largest difference to what transformers alone makes of the exported folder flows out.
"""

from __future__ import annotations

import inspect
import io
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil
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


class NoRoomError(Exception):
    """The exported model would take too much of this host's memory to be compared."""


def compare(run: RunDir, step: int, *, trust_remote_code: bool = False) -> float | None:
    """The largest difference between logits probed in training at `step` and those of `model/` in transformers alone.

    None if nothing was probed at that step. Raises NoRoomError before anything is loaded, and RuntimeError if precision does
    not explain the difference.
    """
    if not run.probe.exists():
        return None
    probe: dict[str, Any] = torch.load(run.probe, weights_only=True)
    if probe["step"] != step:
        return None
    logits = _plain_logits(run.model, probe, trust_remote_code)
    difference = max((mine - plain).abs().max().item() for mine, plain in zip(probe["logits"], logits, strict=True))
    largest = max(mine.abs().max().item() for mine in probe["logits"])
    if not difference <= TOLERANCE[probe["dtype"]] * max(largest, 1.0):
        raise RuntimeError(f"the exported model's logits differ from the trained model's by {difference:.3g}")
    return difference


@torch.no_grad()
def _plain_logits(folder: Path, probe: dict[str, Any], trust_remote_code: bool) -> list[Tensor]:
    import transformers

    classifies = probe["task"] == "classify"
    auto: Any = transformers.AutoModelForSequenceClassification if classifies else transformers.AutoModelForCausalLM
    options: dict[str, Any] = {"trust_remote_code": trust_remote_code}
    config = transformers.AutoConfig.from_pretrained(str(folder), **options)
    with torch.device("meta"):
        forward = auto.from_config(config, **options).forward
    # Over a large vocabulary the logits of all tokens of a case take gigabytes.
    chooses = "logits_to_keep" in inspect.signature(forward).parameters
    kept = [] if classifies else probe["positions" if chooses else "input_ids"]
    # As the model gives them, and in float32.
    _check_room(folder, 2 * 4 * sum(map(len, kept)) * config.get_text_config().vocab_size)
    model = auto.from_pretrained(str(folder), **options).eval()
    if classifies:
        return [model(input_ids=ids[None]).logits[0].float() for ids in probe["input_ids"]]
    return [
        model(input_ids=ids[None], logits_to_keep=at).logits[0].float()
        if chooses
        else model(input_ids=ids[None]).logits[0, at].float()
        for ids, at in zip(probe["input_ids"], probe["positions"], strict=True)
    ]


def _check_room(folder: Path, logits_bytes: int) -> None:
    """This process is the driver of the run, and whoever takes more memory than there is, is killed without a word."""
    needed = sum(path.stat().st_size for path in folder.glob("*.safetensors")) + logits_bytes
    available = psutil.virtual_memory().available
    if needed > available / 2:
        raise NoRoomError(f"{needed / 2**30:.1f} GiB are needed, and {available / 2**30:.1f} GiB are available")
