"""What tests read out of steps: all their bytes, their real batches, their cases and the rows of a worker."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch

from distmed.stream.batch import MicroBatch, Step


def bytes_of(steps: Iterable[Step]) -> list[bytes]:
    """All that a step says, tensors with their bytes."""
    return [repr([facts(vars(step)), *(facts(vars(batch)) for batch in step.micro_batches)]).encode() for step in steps]


def facts(values: dict[str, Any]) -> list[Any]:
    return [
        (name, value.shape, value.dtype, value.numpy().tobytes()) if isinstance(value, torch.Tensor) else (name, value)
        for name, value in values.items()
        if name != "micro_batches"
    ]


def real(batches: Iterable[MicroBatch]) -> list[MicroBatch]:
    return [batch for batch in batches if not batch.masked]


def case_ids(step: Step) -> list[str]:
    return [case for batch in real(step.micro_batches) for case in batch.case_ids]


def rows(step: Step) -> list[bytes]:
    """What each sequence of a worker holds, without the padding."""
    found = []
    for batch in real(step.micro_batches):
        for ids, segments in zip(batch.input_ids_BL, batch.segment_ids_BL, strict=True):
            found.append(ids[segments > 0].numpy().tobytes() + segments[segments > 0].numpy().tobytes())
    return found
