"""What is wrong with the cases to be scored is found and told before any model is loaded."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from distmed.errors import UserError
from distmed.evaluate.labels import LabelSpace
from distmed.evaluate.reading import check_groups, check_overlap


def groups(*names: str) -> Any:
    return SimpleNamespace(cases=[SimpleNamespace(group=name) for name in names])


@pytest.mark.parametrize(
    ("calibration", "train", "notes"),
    [
        (
            ("b", "c"),
            ("b", "c"),
            ["2 groups (papers, patients) of the calibration split are in the training split, too"],
        ),
        (("b",), ("a",), ["1 groups (papers, patients) of the data are in the training split, too"]),
        (("b",), ("c",), []),
    ],
)
def test_groups_that_the_model_may_have_learned_are_noted(
    calibration: tuple[str, ...], train: tuple[str, ...], notes: list[str]
) -> None:
    found = check_groups({"data": groups("a"), "calibration": groups(*calibration), "train": groups(*train)})
    assert [note.partition(":")[0] for note in found] == notes


@pytest.mark.parametrize("labels", [("gout;flu", "flu|cold"), ("gout;flu", "plague")])
def test_data_in_which_no_label_is_one_diagnosis_is_refused(labels: tuple[str, ...], tmp_path: Path) -> None:
    space = LabelSpace(["gout", "flu", "cold"], ["gout", "flu", "cold"])
    read: Any = SimpleNamespace(source="dev", cases=[SimpleNamespace(label=label, label_name=None) for label in labels])
    with pytest.raises(UserError, match="no label stands for one diagnosis of the model, gout;flu") as refused:
        check_overlap(space, read, tmp_path)
    assert "--map" in refused.value.hint
    read.cases.append(SimpleNamespace(label="gout", label_name=None))
    check_overlap(space, read, tmp_path)
