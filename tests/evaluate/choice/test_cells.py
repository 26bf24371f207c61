"""What is told of one to four questions: nothing, unless it was asked for, as of patients."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from distmed.cases.case import Case
from distmed.evaluate.assembly import Scored, exams
from distmed.evaluate.cells import without_small_cells
from distmed.evaluate.figure import proportion, untold

FREE_OF_COUNTS = ("integrity", "options", "shots")


def few_in(value: Any, path: str = "") -> Iterator[str]:
    """Where a count of 1 to 4 stands."""
    if isinstance(value, dict | list):
        for key, inner in value.items() if isinstance(value, dict) else enumerate(value):
            yield from few_in(inner, f"{path}.{key}")
    elif type(value) is int and 1 <= value <= 4 and not any(name in path for name in FREE_OF_COUNTS):
        yield path


def evaluated(few: int, out: Path, *, small_cells: bool) -> dict[str, Any]:
    """Of 40 questions `few` have no known answer, `few` others two equally likely letters; `few` can be rotated."""
    random = np.random.default_rng(0)
    golds = [None if n < few else "AB"[n % 2] for n in range(40)]
    rows = [
        {
            "predicted": "A",
            "candidates": ["A", "B"],
            "option_loglik": [0.0, 0.0] if few <= n < 2 * few else [0.0, -1.0],
            "rotated_loglik": random.normal(size=4).tolist() if few <= n < 2 * few else [0.0, -1.0],
            "text_loglik": [0.0, -1.0],
            "text_chars": [1, 1],
            "parsed": "A",
            "shots_used": 0,
            "prompt_hash": "",
            "cut": False,
        }
        for n in range(40)
    ]
    cases = [
        Case(id=str(n), kind="choice", group=str(n), text="?", options=("x", "y"), label=gold, label_name=gold)
        for n, gold in enumerate(golds)
    ]
    data: Any = SimpleNamespace(cases=cases, manifest=SimpleNamespace(hash="0"))
    space: Any = None
    scored = Scored(data, pa.Table.from_pylist(rows), space, None, None, None, None, answer)
    return exams(scored, {}, out, small_cells=small_cells)[0]


def answer(cases: list[Case], doing: str, mode: str) -> pa.Table:
    return pa.table({"predicted": pa.array(["B"] * len(cases))})


@pytest.mark.parametrize("few", [1, 4])
def test_no_count_of_one_to_four_questions_is_told(few: int, tmp_path: Path) -> None:
    found = evaluated(few, tmp_path, small_cells=False)
    assert list(few_in(found)) == []
    choice = found["choice"]
    assert choice["unlabelled"] is choice["ties"] is choice["position_bias"] is None
    told = evaluated(few, tmp_path, small_cells=True)["choice"]
    assert told["unlabelled"] == told["ties"] == told["position_bias"]["n"] == few


def test_a_place_that_few_questions_have_is_named_and_no_more() -> None:
    place = {"place": "E", "chosen": 0.1, **proportion(1, 3)}
    common = {"place": "A", "chosen": 0.9, **proportion(20, 40)}
    section = {"n": 40, "position_bias": {"n": 40, "accuracy_by_place": [common, place]}}
    told = without_small_cells({"top1": proportion(20, 40), "choice": section})["choice"]["position_bias"]
    assert told["accuracy_by_place"] == [common, untold(place="E", chosen=None)]


def test_five_questions_and_none_are_told(tmp_path: Path) -> None:
    for count in (0, 5):
        found, asked_for = (evaluated(count, tmp_path, small_cells=small)["choice"] for small in (False, True))
        assert found == asked_for and found["unlabelled"] == count
