"""Diagnosed: cases with what a model made of them, in one label space; what predictions.parquet holds.

Cases and scores flow in; gold classes, who is out of the model's set, and the file flow out.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from distmed.cases.case import Case
from distmed.evaluate.labels import LabelSpace, Meaning
from distmed.evaluate.metrics import NOT_A_CLASS
from distmed.evaluate.sample import Sample
from distmed.evaluate.subgroups import subgroup_columns

if TYPE_CHECKING:
    import pyarrow as pa

# N: cases, K: labels.
IN_SET, OUT_OF_SET, SEVERAL, UNLABELLED = "in set", "out of set", "several", "unlabelled"
Floats = NDArray[np.floating]


@dataclass(frozen=True)
class Diagnosed:
    """N cases scored over K labels. `status_N` says whether a case's label is one class of the model, several, or none."""

    space: LabelSpace
    cases: list[Case]
    meanings: list[Meaning]
    table: pa.Table
    """What the scorers gave, a row a case: scores, prompt_hash, tokens, cut."""

    @classmethod
    def of(cls, cases: Sequence[Case], table: pa.Table, space: LabelSpace) -> Diagnosed:
        known = {(label, name): space.meaning(label, name) for label, name in _labels(cases)}
        none = Meaning(())
        return cls(
            space,
            list(cases),
            [none if case.label is None else known[case.label, case.label_name] for case in cases],
            table,
        )

    @cached_property
    def probabilities_NK(self) -> NDArray[np.float32]:
        flat = self.table["scores"].combine_chunks().flatten().to_numpy()
        return np.asarray(flat, np.float32).reshape(len(self.cases), len(self.space.labels))

    @cached_property
    def status_N(self) -> NDArray[Any]:
        return np.array([_status(c, m) for c, m in zip(self.cases, self.meanings, strict=True)], dtype=object)

    @cached_property
    def gold_N(self) -> NDArray[np.int64]:
        """The class of each case; -1 unless it is exactly one."""
        return np.array([m.classes[0] if len(m.classes) == 1 else NOT_A_CLASS for m in self.meanings], dtype=np.int64)

    @cached_property
    def in_set(self) -> NDArray[np.int64]:
        """Places of the cases whose diagnosis is one class of the model."""
        return np.flatnonzero(self.status_N == IN_SET)

    @cached_property
    def sample(self) -> Sample:
        return Sample(self.probabilities_NK[self.in_set], self.gold_N[self.in_set])

    @property
    def confidence_N(self) -> Floats:
        return self.probabilities_NK.max(axis=1)

    @property
    def predicted_N(self) -> NDArray[np.int64]:
        return self.probabilities_NK.argmax(axis=1)

    @property
    def groups(self) -> list[str]:
        return [case.group for case in self.cases]

    def subgroups(self) -> dict[str, list[str]]:
        return subgroup_columns([case.subgroups for case in self.cases])

    def right_if_any_N(self) -> NDArray[np.bool_]:
        """Whether the answer is one of the classes that the case's label stands for; out of set is wrong."""
        predicted = self.predicted_N.tolist()
        return np.array([p in m.classes for p, m in zip(predicted, self.meanings, strict=True)], dtype=bool)


def _labels(cases: Sequence[Case]) -> set[tuple[str, str | None]]:
    return {(case.label, case.label_name) for case in cases if case.label is not None}


def _status(case: Case, meaning: Meaning) -> str:
    if case.label is None:
        return UNLABELLED
    if len(meaning.classes) > 1:
        return SEVERAL
    return IN_SET if meaning.classes else OUT_OF_SET


def write_predictions(
    path: Path,
    diagnosed: Diagnosed,
    about: Mapping[str, Any],
    abstain_N: NDArray[np.bool_] | None,
    texts: list[str] | None = None,
) -> None:
    """predictions.parquet: one row a case, scores in the order of the metadata `labels`. The patient's text only if given."""
    import pyarrow as pa

    space = diagnosed.space
    gold = [
        case.label if status != IN_SET else space.labels[k]
        for case, status, k in zip(diagnosed.cases, diagnosed.status_N, diagnosed.gold_N.tolist(), strict=True)
    ]
    columns = {
        "predicted": pa.array([space.labels[k] for k in diagnosed.predicted_N.tolist()]),
        "confidence": pa.array(diagnosed.confidence_N, pa.float32()),
        "scores": diagnosed.table["scores"],
        "status": pa.array(diagnosed.status_N.tolist(), pa.string()),
        **{name: diagnosed.table[name] for name in ("prompt_hash", "tokens", "cut")},
        "abstain": pa.nulls(len(gold), pa.bool_()) if abstain_N is None else pa.array(abstain_N),
        **_told(texts),
    }
    _write(path, diagnosed.cases, gold, columns, about, "diagnosis", space)


def write_choices(
    path: Path, cases: Sequence[Case], table: pa.Table, about: Mapping[str, Any], texts: list[str] | None = None
) -> None:
    """The same for exam questions, with the columns that the scorers gave."""
    columns = {name: table[name] for name in table.column_names} | _told(texts)
    labels = sorted({case.label for case in cases if case.label is not None})
    _write(path, cases, [case.label for case in cases], columns, about, "choice", LabelSpace(labels, labels))


def _told(texts: list[str] | None) -> dict[str, Any]:
    import pyarrow as pa

    return {} if texts is None else {"text": pa.array(texts, pa.string())}


def _write(
    path: Path,
    cases: Sequence[Case],
    gold: list[str | None],
    columns: Mapping[str, Any],
    about: Mapping[str, Any],
    kind: str,
    space: LabelSpace,
) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    names = sorted({name for case in cases for name in case.subgroups} - {"case_id", "group", "gold", *columns})
    table = pa.table(
        {
            "case_id": pa.array([case.id for case in cases], pa.string()),
            "group": pa.array([case.group for case in cases], pa.string()),
            "gold": pa.array(gold, pa.string()),
            **columns,
            **{name: pa.array([case.subgroups.get(name) for case in cases], pa.string()) for name in names},
        }
    )
    facts = {"labels": space.labels, "label_names": space.names, "subgroups": names, "about": about, "kind": kind}
    metadata = {name: json.dumps(value, ensure_ascii=False).encode() for name, value in facts.items()}
    path.touch(0o600)
    pq.write_table(table.replace_schema_metadata(metadata), path, compression="zstd")
