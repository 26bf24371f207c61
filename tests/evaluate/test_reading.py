"""What is wrong with the cases to be scored is found and told before any model is loaded."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Literal

import pytest

from distmed.cases.case import Case
from distmed.errors import UserError
from distmed.evaluate.labels import LabelSpace
from distmed.evaluate.loading import Opened
from distmed.evaluate.reading import Asked, check_groups, check_overlap, names_apart, settle


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


@pytest.mark.parametrize(
    ("data", "train", "calibration", "told"),
    [
        (False, False, True, ["--calibration cannot be told"]),
        (True, False, False, ["--train or --calibration cannot be told"]),
        (True, True, True, []),
        (False, False, False, []),
    ],
)
def test_groups_that_cannot_be_compared_are_noted(data: bool, train: bool, calibration: bool, told: list[str]) -> None:
    def prepared(deidentify: bool) -> Any:
        return SimpleNamespace(manifest=SimpleNamespace(settings={"deidentify": True} if deidentify else {}))

    read = {"data": prepared(data), "train": prepared(train), "calibration": prepared(calibration)}
    notes = [note.partition(":")[0] for note in names_apart(read)]
    assert notes == [f"Whether --data shares patients with {which}" for which in told]


def asked(
    tmp_path: Path, task: Literal["classify", "generate"], labels: list[str], names: list[str], **read: Any
) -> Asked:
    recipe: Any = None
    opened = Opened("model", tmp_path, None, task, labels, names, recipe, "hash", "llama", False)
    return settle(opened, read, None, tmp_path)


def cases(*named: tuple[str, str]) -> Any:
    found = [
        Case(id=str(n), kind="diagnosis", group=f"{label} {n}", text="?", label=label, label_name=name)
        for n, (label, name) in enumerate(named)
    ]
    return SimpleNamespace(source="dev", cases=found, manifest=SimpleNamespace(settings={}))


def test_candidates_that_are_the_labels_of_the_data_are_noted(tmp_path: Path) -> None:
    data = cases(("OMIM:1", "gout"), ("OMIM:2", "flu"))
    found = asked(tmp_path, "generate", [], [], data=data)
    assert found.labels_from == "data" and found.opened.labels == ["OMIM:1", "OMIM:2"]
    assert [note.partition(":")[0] for note in found.notes] == [
        "The diagnoses to choose among are the labels of these cases, since no --train was given"
    ]
    train = cases(("OMIM:1", "gout"), ("OMIM:2", "flu"), ("OMIM:3", "cold"))
    train.cases = [replace(case, group=f"train {case.group}") for case in train.cases]
    assert asked(tmp_path, "generate", [], [], data=data, train=train).notes == []
    assert asked(tmp_path, "classify", ["OMIM:1", "OMIM:2"], ["gout", "flu"], data=data).notes == []


@pytest.mark.parametrize(("task", "noted"), [("generate", True), ("classify", False)])
def test_names_that_several_diagnoses_share_are_noted_of_a_generator(
    task: Literal["classify", "generate"], noted: bool, tmp_path: Path
) -> None:
    labels, names = ["OMIM:1", "OMIM:2", "OMIM:3"], ["deafness", "deafness", "flu"]
    notes = asked(tmp_path, task, labels, names, data=cases(*zip(labels, names, strict=True))).notes
    assert [note.partition(":")[0] for note in notes] == ["2 diagnoses share their name with another"] * noted
