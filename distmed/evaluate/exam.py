"""Exam: the evidence for multiple-choice questions; how each is scored lies in choice/.

Questions and the table of their scores flow in, the content of metrics.json flows out.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from distmed.cases.case import Case
from distmed.evaluate.bootstrap import bootstrapped, draws, interval
from distmed.evaluate.comparison import holm, mcnemar
from distmed.evaluate.figure import proportion
from distmed.evaluate.subgroups import subgroup_accuracy

if TYPE_CHECKING:
    import pyarrow as pa


def exam_evidence(cases: Sequence[Case], table: pa.Table, *, small_cells: bool) -> dict[str, Any]:
    """Figures and sections of questions: top1 is the accuracy of the most likely letter."""
    import pyarrow as pa

    from distmed.evaluate.choice import choice_section

    correct_N = np.array(correct(cases, table))
    groups = [case.group for case in cases]
    weights_BN = draws(groups)
    drawn_B = (weights_BN @ correct_N.astype(np.float32)) / weights_BN.sum(axis=1)
    low, high = interval(drawn_B) if len(set(groups)) > 1 else (None, None)
    whole = table.append_column("gold", pa.array([case.label for case in cases], pa.string()))
    names = sorted({name for case in cases for name in case.subgroups})
    return {
        "top1": proportion(int(correct_N.sum()), len(cases), cluster_low=low, cluster_high=high),
        "choice": choice_section(whole.append_column("group", pa.array(groups, pa.string()))),
        "subgroups": {
            name: subgroup_accuracy(
                correct_N, [case.subgroups.get(name) for case in cases], groups, weights_BN, small_cells=small_cells
            )
            for name in names
        },
        "notes": [],
    }


def compare_exams(name: str, cases: Sequence[Case], this: pa.Table, other: pa.Table) -> list[dict[str, Any]]:
    """The section `comparison` of two models on the same questions."""
    this_N, other_N = (np.array(correct(cases, table)) for table in (this, other))
    groups = [case.group for case in cases]
    weights_BN = draws(groups)
    change_N = this_N.astype(np.float32) - other_N.astype(np.float32)
    drawn_B = (weights_BN @ change_N) / weights_BN.sum(axis=1)
    difference = bootstrapped(float(change_N.mean()), drawn_B, len(cases), len(set(groups)))
    figures = {"top1": {"this": float(this_N.mean()), "other": float(other_N.mean()), "difference": difference}}
    rows = [{"with": "model", "name": name, "n": len(cases), "mcnemar": mcnemar(this_N, other_N), "figures": figures}]
    holm(rows)
    return rows


def correct(cases: Sequence[Case], table: pa.Table) -> list[bool]:
    """Whether the most likely letter is the right one."""
    return [said == case.label for said, case in zip(table["predicted"].to_pylist(), cases, strict=True)]
