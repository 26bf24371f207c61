"""Rivals: the models that the evidence is held against, in one label space, on the same cases.

Scored cases and a second model's scores, or training cases for the floors, flow in; rows of the section `comparison` flow out.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from distmed.cases.case import Case
from distmed.evaluate.comparison import compare, holm
from distmed.evaluate.diagnosed import Diagnosed
from distmed.evaluate.floor import linear_scores, majority_scores
from distmed.evaluate.labels import LabelSpace
from distmed.evaluate.sample import Sample

# N: cases in set, K: labels of the model, U: labels of both, B: draws.
Floats = NDArray[np.floating]
Rival = tuple[str, str, Floats, LabelSpace]
"""(what it is, its name, probabilities of the N cases in set, its labels)."""


def second_model(name: str, scored: Diagnosed, in_set: NDArray[np.int64]) -> Rival:
    """Another model's answers to the cases in set of the first."""
    return "model", name, scored.probabilities_NK[in_set], scored.space


def floors(train: Sequence[Case], scored: Diagnosed) -> list[Rival]:
    """A linear model of the words, and the frequencies of the diagnoses, from the training cases of one class of the model."""
    space = scored.space
    known = [c for c in train if c.label is not None and len(space.meaning(c.label, c.label_name).classes) == 1]
    cases = [scored.cases[n] for n in scored.in_set.tolist()]
    names = {case.label: case.label_name or case.label for case in known if case.label is not None}
    rivals = []
    for what, scores in (
        ("linear floor", linear_scores(known, cases)),
        ("majority floor", majority_scores(known, cases)),
    ):
        if scores is not None:
            labels = scores[2]
            rivals.append((what, what, scores[0], LabelSpace(labels, [names[label] for label in labels])))
    return rivals


def compare_all(scored: Diagnosed, rivals: Sequence[Rival], weights_BN: NDArray[np.float32]) -> list[dict[str, Any]]:
    """The section `comparison`: McNemar and paired differences for every rival, p adjusted over all of them."""
    groups = [scored.groups[n] for n in scored.in_set.tolist()]
    rows = []
    for what, name, probabilities_NK, space in rivals:
        this, other, all_known = _aligned(scored, probabilities_NK, space)
        compared = compare(this, other, weights_BN, groups, all_known=all_known)
        rows.append({"with": what, "name": name, "n": this.cases, **compared})
    holm(rows)
    return rows


def _aligned(scored: Diagnosed, other_NK: Floats, space: LabelSpace) -> tuple[Sample, Sample, bool]:
    """Both over the labels of both, where what one does not know has probability 0; whether the other knows each diagnosis."""
    place = []
    labels = len(scored.space.labels)
    for label, name in zip(space.labels, space.names, strict=True):
        classes = scored.space.meaning(label, name).classes
        place.append(classes[0] if len(classes) == 1 else labels)
        labels += len(classes) != 1
    gold_N = scored.gold_N[scored.in_set]
    this_NU, other_NU = np.zeros((2, len(gold_N), labels), np.float32)
    this_NU[:, : len(scored.space.labels)] = scored.probabilities_NK[scored.in_set]
    np.add.at(other_NU.T, np.array(place), other_NK.T.astype(np.float32))
    return Sample(this_NU, gold_N), Sample(other_NU, gold_N), bool(np.isin(gold_N, place).all())
