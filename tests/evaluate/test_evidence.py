"""Evidence: the notes that stand before the figures, and what is left out of them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from distmed.cases.case import Case
from distmed.evaluate.diagnosed import Diagnosed
from distmed.evaluate.evidence import evidence
from distmed.evaluate.labels import LabelSpace
from distmed.evaluate.learned import Learned, learned_notes

LABELS = ["cold", "flu", "gout", "plague", "scurvy"]


def diagnosed(golds: list[str], scores_NK: Any) -> Diagnosed:
    cases = [
        Case(id=str(n), kind="diagnosis", group=str(n), findings=("x",), label=gold, label_name=gold)
        for n, gold in enumerate(golds)
    ]
    table = pa.table({"scores": pa.array(np.asarray(scores_NK).tolist(), pa.list_(pa.float32()))})
    return Diagnosed.of(cases, table, LabelSpace(LABELS, LABELS))


def notes_of(golds: list[str]) -> list[str]:
    found, _ = evidence(diagnosed(golds, np.full((len(golds), 5), 0.2)), None, small_cells=False)
    return list(found["notes"])


@pytest.mark.parametrize("rare", LABELS)
def test_every_diagnosis_of_few_cases_is_counted_wherever_it_stands_among_the_labels(rare):
    golds = [label for label in LABELS[:2] for _ in range(12)] + [rare] * 6
    few = [note for note in notes_of(golds) if "fewer than 10 cases" in note]
    assert few == ([] if rare in LABELS[:2] else ["1 diagnoses have fewer than 10 cases: their own figures are rough."])


@pytest.mark.parametrize(("right", "said"), [(0.9, "at 0.01, a bound"), (0.1, "at 100, a bound"), (None, None)])
def test_a_temperature_at_a_bound_of_its_search_is_noted(right, said, drawn):
    cases = drawn(60, 5)
    scores_NK = cases.probabilities_NK
    if right is not None:
        # All answers right, or all wrong: then no temperature is the best one.
        scores_NK = np.where(np.arange(5) == cases.gold_N[:, None], right, (1 - right) / 4)
    split = diagnosed([LABELS[k] for k in cases.gold_N], scores_NK)
    noted = [note for note in learned_notes(Learned.of(split)) if "temperature" in note]
    assert [said in note for note in noted] == ([True] if said else [])
