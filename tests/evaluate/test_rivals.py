"""Rivals: what the other side cannot know is neither credited nor scored as if it had answered."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from distmed.cases.case import Case
from distmed.evaluate.bootstrap import draws
from distmed.evaluate.diagnosed import Diagnosed
from distmed.evaluate.labels import LabelSpace
from distmed.evaluate.rivals import Rival, compare_all, floors

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


def test_a_diagnosis_that_a_rival_does_not_know_leaves_out_its_likelihood_and_says_so():
    figures = against(["cold", "flu", "gout", "gout"], knows_two(4))[0]["figures"]
    assert figures["nll"]["this"] == pytest.approx(-np.log(0.8)) and figures["nll"]["other"] is None
    difference = figures["nll"]["difference"]
    assert difference["value"] is None and "does not know every diagnosis" in difference["why"]
    assert figures["brier"]["difference"]["value"] is not None
    known = against(["cold", "flu"], knows_two(2))[0]["figures"]["nll"]
    assert known["difference"]["value"] == pytest.approx(-np.log(0.8) + np.log(0.6 * 0.4) / 2)


def test_several_diagnoses_of_one_training_case_are_no_class_of_a_floor():
    train = [case(n, label) for n, label in enumerate([*LABELS, "cold;flu"] * 3)]
    spaces = [space for _, _, _, space in floors(train, scored(LABELS))]
    assert [space.labels for space in spaces] == [LABELS, LABELS]
