"""Rivals: what the other side cannot know is neither credited nor scored as if it had answered."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from distmed.cases.case import Case
from distmed.evaluate.bootstrap import draws
from distmed.evaluate.diagnosed import Diagnosed
from distmed.evaluate.labels import LabelSpace
from distmed.evaluate.rivals import Rival, compare_all

LABELS = ["cold", "flu", "gout"]


def case(n: int, label: str) -> Case:
    return Case(
        id=str(n), kind="diagnosis", group=str(n), findings=(f"sign of {label}",), label=label, label_name=label
    )


def scored(golds: list[str]) -> Diagnosed:
    """A model that is always 80 % sure of the right diagnosis."""
    scores = [[0.8 if label == gold else 0.1 for label in LABELS] for gold in golds]
    table = pa.table({"scores": pa.array(scores, pa.list_(pa.float32()))})
    return Diagnosed.of([case(n, gold) for n, gold in enumerate(golds)], table, LabelSpace(LABELS, LABELS))


def against(golds: list[str], *rivals: Rival) -> list[dict]:
    found = scored(golds)
    return compare_all(found, rivals, draws(found.groups, 50))


def knows_two(cases: int) -> Rival:
    """A rival of which gout is no class."""
    return "model", "small", np.tile([0.6, 0.4], (cases, 1)), LabelSpace(LABELS[:2], LABELS[:2])


def test_a_rival_gets_no_credit_for_a_diagnosis_that_it_does_not_know():
    figures = against(["cold", "flu", "gout", "gout"], knows_two(4))[0]["figures"]
    assert figures["top3"]["this"] == figures["top5"]["this"] == 1
    assert figures["top3"]["other"] == figures["top5"]["other"] == 0.5
