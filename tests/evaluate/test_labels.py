"""Labels: what matches, what a mapping file changes, what is offered where nothing matches, and what is never guessed."""

from __future__ import annotations

import csv

import pytest

from distmed.cases.case import Case
from distmed.errors import UserError
from distmed.evaluate.labels import LabelSpace, read_mapping
from distmed.evaluate.reading import Read, check_overlap

LABELS = ["OMIM:154700", "OMIM:130050", "ICD10:E11.9", "MONDO:0005148"]
NAMES = ["Marfan syndrome", "Ehlers-Danlos syndrome, vascular type", "Type 2 diabetes", "type 2 diabetes mellitus"]


@pytest.fixture
def space():
    return LabelSpace(LABELS, NAMES)


def read(*labels: str, source: str = "dev.csv") -> Read:
    cases = [
        Case(id=str(n), kind="diagnosis", group=str(n), text="x", label=x, label_name=x) for n, x in enumerate(labels)
    ]
    return Read(source, None, cases)  # type: ignore[arg-type]


def test_keys_and_names_are_compared_as_they_are_written(space):
    assert space.meaning("OMIM:154700", "whatever").classes == (0,)
    assert space.meaning("Marfan syndrome", None).classes == (0,)
    assert space.meaning("x", "Type 2 diabetes").classes == (2,)
    for almost in ("omim:154700", "OMIM 154700", "Marfan Syndrome", "154700"):
        assert space.meaning(almost, None).classes == ()


def test_several_diagnoses_of_one_case(space):
    assert space.meaning("OMIM:154700; ICD10:E11.9", None).classes == (0, 2)
    assert space.meaning("OMIM:154700|OMIM:999", None).classes == (0, -1)
    # Nothing is known of either part: one diagnosis that the model does not know.
    assert space.meaning("Plague; bubonic", None).classes == ()
    # A name with a comma is one diagnosis.
    assert space.meaning("Ehlers-Danlos syndrome, vascular type", None).classes == (1,)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("map.csv", "data,model\nMarfan,OMIM:154700\nE11.9,Type 2 diabetes\nunknown,\n"),
        ("map.tsv", "data\tmodel\nMarfan\tOMIM:154700\nE11.9\tType 2 diabetes\nunknown\t\n"),
        ("map.json", '{"Marfan": "OMIM:154700", "E11.9": "Type 2 diabetes", "unknown": null}'),
    ],
)
def test_mapping_files(space, tmp_path, name, text):
    (tmp_path / name).write_text(text)
    mapped = LabelSpace(LABELS, NAMES, read_mapping(tmp_path / name, space))
    assert mapped.meaning("Marfan", None).classes == (0,)
    assert mapped.meaning("E11.9", None).classes == (2,) and mapped.meaning("E11.9", None).mapped
    assert mapped.meaning("unknown", "Marfan syndrome").classes == ()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a,b\n1,2\n", "is no mapping file"),
        ("data,model\nx,Marfan sindrome\n", "maps to labels that the model does not have: Marfan sindrome"),
    ],
)
def test_a_mapping_file_that_cannot_be_used(space, tmp_path, text, message):
    (tmp_path / "map.csv").write_text(text)
    with pytest.raises(UserError, match=message) as refused:
        read_mapping(tmp_path / "map.csv", space)
    assert "OMIM:154700" in refused.value.hint or "data,model" in refused.value.hint


def test_no_mapping_file_there(space, tmp_path):
    with pytest.raises(UserError, match="no mapping file at"):
        read_mapping(tmp_path / "gone.csv", space)


def test_labels_spelled_differently_list_the_nearest_and_offer_a_file_to_fill_in(space, tmp_path):
    with pytest.raises(UserError) as refused:
        check_overlap(space, read("OMIM 154700", "Marfan Syndrome", "plague"), tmp_path)
    assert "none of the 3 labels of dev.csv" in refused.value.message
    assert "OMIM 154700 ~ OMIM:154700" in refused.value.message
    assert "--map" in refused.value.hint
    rows = {row["data"]: row["model"] for row in csv.DictReader((tmp_path / "label_map.csv").open())}
    assert rows == {"OMIM 154700": "OMIM:154700", "Marfan Syndrome": "OMIM:154700", "plague": ""}
    # The file that was offered can be given as it is.
    mapped = LabelSpace(LABELS, NAMES, read_mapping(tmp_path / "label_map.csv", space))
    assert check_overlap(mapped, read("OMIM 154700", "Marfan Syndrome", "plague"), tmp_path) == []


def test_no_overlap_at_all(space, tmp_path):
    with pytest.raises(
        UserError, match=r"none of the 2 labels .* OMIM:154700, OMIM:130050 and 2 more: .*nearest: none"
    ):
        check_overlap(space, read("plague", "cholera"), tmp_path)


def test_a_few_that_look_alike_are_noted_and_not_guessed(space, tmp_path):
    (note,) = check_overlap(space, read("OMIM:154700", "OMIM 130050"), tmp_path)
    assert "1 labels of the data look like" in note
    assert space.meaning("OMIM 130050", None).classes == ()


@pytest.mark.parametrize("label", ["OMIM:154701", "OMIM:145700", "Type 1 diabetes", "ICD10:E11.8", "Type II diabetes"])
def test_another_number_is_another_disease_however_alike(space, label):
    assert space.nearest(label, None) is None


def test_data_without_labels_is_for_predict(space, tmp_path):
    unlabelled = Read("new.csv", None, [Case(id="1", kind="diagnosis", group="1", text="x")])  # type: ignore[arg-type]
    with pytest.raises(UserError, match=r"new.csv: no case has a label") as refused:
        check_overlap(space, unlabelled, tmp_path)
    assert "distmed predict" in refused.value.hint
