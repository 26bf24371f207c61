"""Integrity: whether the evidence is about the cases it names, each answered once; and hashes to tell one run from another."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from distmed.cases.case import Case
from distmed.errors import UserError, one_of
from distmed.evaluate.figure import Figure

WHOLE = 1e-6


def check_ids(cases: Sequence[Case], source: str) -> None:
    """Raises UserError where two cases share an id: one of them would be lost in whatever is joined by it."""
    twice = [id for id, n in Counter(case.id for case in cases).items() if n > 1]
    if twice:
        raise UserError(
            f"{source}: {len(twice)} case ids occur more than once: {one_of(twice, 3)}",
            "give each case an id of its own",
        )


def integrity(
    cases: Sequence[Case], prompt_hashes: Sequence[str], cut: int, top1: Figure, data_hash: str
) -> dict[str, Any]:
    """The section `integrity`: counts, hashes of items, prompts and data, and the checks that were made."""
    ids = {case.id for case in cases}
    hits = (top1["value"] or 0.0) * top1["n"]
    whole = abs(hits - round(hits)) <= WHOLE * max(top1["n"], 1)
    answered = sum(bool(prompt) for prompt in prompt_hashes)
    checks = {
        "every case is answered once": (answered == len(cases) == len(ids), f"{answered} of {len(cases)}"),
        "top1 x n is a whole number": (whole, f"{round(hits)} of {top1['n']}"),
        "no prompt was cut": (cut == 0, f"{cut} prompts were longer than the model reads"),
    }
    return {
        "cases": len(cases),
        "answered": answered,
        "unique_ids": len(ids) == len(cases),
        "whole_number": whole,
        "cut": cut,
        "items": _digest(f"{case.id}\0{case.label}" for case in cases),
        "prompts": _digest(prompt_hashes),
        "data": data_hash,
        "checks": [{"name": name, "passed": passed, "detail": detail} for name, (passed, detail) in checks.items()],
    }


def rounded(value: Any) -> Any:
    """The same with numbers of ten significant digits: the last bits of a sum depend on how it was cut."""
    if isinstance(value, float):
        return float(f"{value:.10g}")
    if isinstance(value, Mapping):
        return {key: rounded(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [rounded(inner) for inner in value]
    return value


def _digest(parts: Any) -> str:
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()
