"""Exam: the evidence for multiple-choice questions; how each is scored lies in choice/.

Questions and the table of their scores flow in, the content of metrics.json flows out.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from distmed.cases.case import Case
from distmed.evaluate.bootstrap import bootstrapped, draws, share
from distmed.evaluate.comparison import holm, mcnemar
from distmed.evaluate.floor import linear_scores, majority_scores
from distmed.evaluate.subgroups import subgroup_accuracy, subgroup_columns

if TYPE_CHECKING:
    import pyarrow as pa

Rival = tuple[str, str, dict[str, NDArray[np.bool_]]]
"""(what it is, its name, way of answering -> which of the N questions it got right)."""


def exam_evidence(cases: Sequence[Case], table: pa.Table, *, small_cells: bool) -> dict[str, Any]:
    """Figures and sections of questions: top1 is the accuracy of the most likely letter."""
    import pyarrow as pa

    from distmed.evaluate.choice import choice_section

    correct_N = np.array(correct(cases, table))
    groups = [case.group for case in cases]
    weights_BN = draws(groups)
    whole = table.append_column("gold", pa.array([case.label for case in cases], pa.string()))
    return {
        "top1": share(correct_N, weights_BN, groups),
        "choice": choice_section(whole.append_column("group", pa.array(groups, pa.string()))),
        "subgroups": {
            name: subgroup_accuracy(correct_N, value_N, groups, weights_BN, small_cells=small_cells)
            for name, value_N in subgroup_columns([case.subgroups for case in cases]).items()
        },
        "notes": [],
    }


def second_model(name: str, cases: Sequence[Case], other: pa.Table) -> Rival:
    """Another model's answers to the same questions, in every way of reading them."""
    from distmed.evaluate.choice import answers

    return "model", name, {way: _right(said, cases) for way, said in answers(other).items()}


def floors(train: Sequence[Case], cases: Sequence[Case], table: pa.Table) -> list[Rival]:
    """A linear model of the words of question and options, and the most frequent answers in `train`.

    They answer with a letter (or word) that the question offers.
    """
    solved = [case for case in train if case.kind == "choice" and case.label is not None]
    offered = table["candidates"].to_pylist()
    rivals: list[Rival] = []
    for what, score in (("linear floor", linear_scores), ("majority floor", majority_scores)):
        scores = score(solved, list(cases))
        if scores is not None:
            said = [_first_offered(p_K, scores[2], own) for p_K, own in zip(scores[0], offered, strict=True)]
            rivals.append((what, what, {"letter": _right(said, cases)}))
    return rivals


def compare_exams(cases: Sequence[Case], table: pa.Table, rivals: Sequence[Rival]) -> list[dict[str, Any]]:
    """The section `comparison`: an exact test over the letters, and the paired difference in each way that both answered."""
    from distmed.evaluate.choice import answers

    this = {way: _right(said, cases) for way, said in answers(table).items()}
    groups = [case.group for case in cases]
    weights_BN = draws(groups)
    total_B, count = weights_BN.sum(axis=1), len(set(groups))
    rows = []
    for what, name, other in rivals:
        figures = {}
        for way, other_N in other.items():
            change_N = this[way].astype(np.float32) - other_N.astype(np.float32)
            drawn_B = (weights_BN @ change_N) / total_B
            difference = bootstrapped(float(change_N.mean(dtype=np.float64)), drawn_B, len(cases), count)
            figures[way] = {"this": float(this[way].mean()), "other": float(other_N.mean()), "difference": difference}
        test = mcnemar(this["letter"], other["letter"], groups)
        rows.append({"with": what, "name": name, "n": len(cases), "mcnemar": test, "figures": figures})
    holm(rows)
    return rows


def correct(cases: Sequence[Case], table: pa.Table) -> list[bool]:
    """Whether the most likely letter is the right one."""
    return [bool(right) for right in _right(table["predicted"].to_pylist(), cases)]


def _right(said: Sequence[str | None], cases: Sequence[Case]) -> NDArray[np.bool_]:
    pairs = zip(said, cases, strict=True)
    return np.array([answer is not None and answer == case.label for answer, case in pairs], dtype=bool)


def _first_offered(scores_K: NDArray[np.floating], labels: Sequence[str], offered: Sequence[str]) -> str | None:
    order = np.argsort(-scores_K, kind="stable").tolist()
    return next((labels[k] for k in order if labels[k] in offered), None)
