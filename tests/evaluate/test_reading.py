"""What is wrong with the cases to be scored is found and told before any model is loaded."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from distmed.evaluate.reading import check_groups


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
