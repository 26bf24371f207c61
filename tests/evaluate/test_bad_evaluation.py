"""What a user got wrong ends in two lines and status 2; what is only thin is said in the figures."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch

from distmed.evaluate.loading import open_model
from tests.evaluate.conftest import LABELS, NAMES, write_cases
from tests.evaluate.door import Door

pytestmark = pytest.mark.slow

FORMAT = ("--format", "phenopackets")


@pytest.fixture
def dev(tmp_path: Path) -> Path:
    return write_cases(tmp_path / "dev.jsonl")


def evaluate(door: Door, model: object, data: object, *words: object) -> tuple[object, ...]:
    return ("evaluate", model, "--data", data, "--out", door.out, *words)


def test_no_overlap_between_the_labels(door: Door, tiny, tmp_path):
    dev = write_cases(tmp_path / "dev.jsonl", 9, ["ORPHA:1", "ORPHA:2"])
    error, fix = door.refuse(*evaluate(door, tiny("classify"), dev, *FORMAT))
    assert f"none of the 2 labels of {dev} is one of the model's 4" in error and "label_map.csv" in fix


def test_labels_spelled_differently_and_the_mapping_file_that_mends_them(door: Door, tiny, tmp_path):
    dev = write_cases(tmp_path / "dev.jsonl", 40, [label.replace(":", " ") for label in LABELS])
    error, fix = door.refuse(*evaluate(door, tiny("classify"), dev, *FORMAT))
    assert "OMIM 100 ~ OMIM:100" in error and "--map" in fix
    metrics = door.evaluate(tiny("classify"), dev, *FORMAT, "--map", door.out / "label_map.csv")
    assert metrics["top1"]["n"] == metrics["labels"]["mapped"] == 40


def test_a_class_absent_from_the_sample_is_undefined(door: Door, tiny, tmp_path):
    metrics = door.evaluate(tiny("classify"), write_cases(tmp_path / "dev.jsonl", 30, LABELS[:3]), *FORMAT)
    row = metrics["per_disease"][3]
    assert row["label"] == LABELS[3] and row["auroc"]["value"] is None and row["auroc"]["why"] == "undefined, n=0"
    assert metrics["auroc_macro"]["value"] is not None
    assert metrics["labels"]["present"] == 3 and any("1 of the model's 4 diagnoses" in n for n in metrics["notes"])


def test_a_subgroup_of_three(door: Door, tiny, tmp_path):
    dev = write_cases(tmp_path / "dev.jsonl", 40, sex="FEMALE")
    few = write_cases(tmp_path / "few.jsonl", 3, sex="MALE")
    dev.write_text(dev.read_text() + few.read_text())
    metrics = door.evaluate(tiny("classify"), dev, *FORMAT)
    male = metrics["subgroups"]["sex"]["groups"][1]
    assert male["value"] == "male" and male["suppressed"] and male["n"] is None
    metrics = door.evaluate(tiny("classify"), dev, *FORMAT, "--small-cells")
    assert metrics["subgroups"]["sex"]["groups"][1]["n"] == 3


def damaged(folder: Path, tmp_path: Path, value: float) -> Path:
    """A copy of the model whose head has this weight everywhere."""
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    copy = tmp_path / "damaged"
    model = AutoModelForSequenceClassification.from_pretrained(folder)
    with torch.no_grad():
        model.score.weight.fill_(value)
    model.save_pretrained(copy)
    AutoTokenizer.from_pretrained(folder).save_pretrained(copy)
    return copy


def test_all_scores_equal_is_chance(door: Door, tiny, dev, tmp_path):
    metrics = door.evaluate(damaged(tiny("classify"), tmp_path, 0.0), dev, *FORMAT)
    assert metrics["auroc_macro"]["value"] == 0.5 and metrics["mcc"]["value"] == 0
    assert metrics["nll"]["value"] == pytest.approx(torch.log(torch.tensor(4.0)).item(), abs=1e-5)


def test_scores_that_are_not_finite_name_the_cases(door: Door, tiny, dev, tmp_path):
    error, _ = door.refuse(*evaluate(door, damaged(tiny("classify"), tmp_path, float("nan")), dev, *FORMAT))
    assert "the scores of 60 of 60 cases are not finite: dev-0, dev-1, dev-2" in error


def test_one_case(door: Door, tiny, tmp_path):
    metrics = door.evaluate(tiny("classify"), write_cases(tmp_path / "dev.jsonl", 1), *FORMAT)
    assert metrics["top1"]["n"] == 1 and metrics["top1"]["low"] is not None
    assert metrics["auroc_macro"]["value"] is None and "same diagnosis" in metrics["auroc_macro"]["why"]
    assert metrics["brier"]["method"] == "no interval: one group"


def test_a_prompt_that_is_too_long_is_counted_and_reported(door: Door, tiny, tmp_path):
    dev = write_cases(tmp_path / "dev.jsonl", 12)
    long = write_cases(tmp_path / "long.jsonl", 2, phenotypes=["finding 1"] * 200)
    dev.write_text(dev.read_text() + long.read_text())
    metrics = door.evaluate(tiny("classify"), dev, *FORMAT)
    assert metrics["integrity"]["cut"] == 2
    assert "2 prompts were longer than the model reads and were cut." in metrics["notes"]
    checks = {check["name"]: check["passed"] for check in metrics["integrity"]["checks"]}
    assert not checks["no prompt was cut"] and checks["every case is answered once"]


def test_ids_that_occur_twice(door: Door, tiny, tmp_path):
    dev = write_cases(tmp_path / "dev.jsonl", 12)
    dev.write_text(dev.read_text() + dev.read_text().splitlines()[0] + "\n")
    error, fix = door.refuse(*evaluate(door, tiny("classify"), dev, *FORMAT))
    assert "1 case ids occur more than once: dev-0" in error and "id of its own" in fix


def test_calibration_cases_that_are_in_the_data(door: Door, tiny, dev):
    error, _ = door.refuse(*evaluate(door, tiny("classify"), dev, *FORMAT, "--calibration", dev))
    assert "20 groups (papers, patients) of --calibration are in --data, too" in error


def test_training_cases_that_are_in_the_data_are_noted(door: Door, tiny, dev):
    metrics = door.evaluate(tiny("classify"), dev, *FORMAT, "--train", dev)
    assert any("20 groups" in note and "training split, too" in note for note in metrics["notes"])


def test_a_calibration_split_that_the_model_does_not_know(door: Door, tiny, dev, tmp_path):
    split = write_cases(tmp_path / "split.jsonl", 9, ["ORPHA:1"])
    error, fix = door.refuse(*evaluate(door, tiny("classify"), dev, *FORMAT, "--calibration", split))
    assert "no case of the calibration split" in error and "--calibration" in fix


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("choice.shot=1",), "unknown recipe key: choice.shot"),
        (("optimizer.lr=1",), "optimizer.lr does not belong to scoring"),
        (("--map", "gone.csv"), "no mapping file at gone.csv"),
        (("--train", "gone.jsonl"), "not found: gone.jsonl"),
        (("--against", "./gone"), "no such folder: ./gone"),
        (("--format", "phenopacket"), "unknown format: phenopacket"),
    ],
)
def test_words_that_name_nothing(door: Door, tiny, dev, words, message):
    error, _ = door.refuse(*evaluate(door, tiny("classify"), dev, *FORMAT, *words))
    assert message in error
    assert not door.out.exists()


def test_a_folder_that_is_no_model(door: Door, dev, tmp_path):
    (tmp_path / "empty").mkdir()
    error, fix = door.refuse(*evaluate(door, tmp_path / "empty", dev, *FORMAT))
    assert "is no model: no config.json, no run, no checkpoint" in error and "runs/NAME" in fix


def test_data_without_labels(door: Door, tiny, tmp_path):
    data = tmp_path / "new.csv"
    data.write_text("text,label\nfever,\n")
    error, _ = door.refuse(*evaluate(door, tiny("classify"), data))
    assert "has no label" in error


def test_conversations_have_no_diagnosis(door: Door, tiny, tmp_path):
    data = tmp_path / "qa.jsonl"
    data.write_text(json.dumps({"source": "x", "focus": "gout", "qid": 1, "question": "?", "answer": "!"}) + "\n")
    error, _ = door.refuse(*evaluate(door, tiny("generate"), data, "--format", "medquad"))
    assert "holds conversations" in error


# ------------------------------------------------------------------ predict


@pytest.mark.parametrize("ending", [".parquet", ".jsonl", ".csv"])
def test_cases_without_a_label_are_diagnosed(door: Door, tiny, tmp_path, ending):
    rows = [json.loads(line) for line in write_cases(tmp_path / "new.jsonl", 9).read_text().splitlines()]
    for row in rows:
        del row["disease"], row["disease_id"]
    (tmp_path / "new.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    out = tmp_path / f"answers{ending}"
    door.run("predict", tiny("classify"), "--data", tmp_path / "new.jsonl", "--out", out, *FORMAT)
    found = read(out)
    assert [row["case_id"] for row in found] == [f"new-{n}" for n in range(9)]
    assert {row["predicted"] for row in found} <= set(LABELS)
    assert all(0.25 <= float(row["confidence"]) <= 1 for row in found)
    assert all(row["abstain"] in (None, "") for row in found)
    assert not list(tmp_path.glob(".answers*"))


def read(path: Path) -> list[dict[str, object]]:
    import csv

    import pyarrow.parquet as pq

    if path.suffix == ".parquet":
        return pq.read_table(path).to_pylist()
    if path.suffix == ".csv":
        return list(csv.DictReader(path.open()))
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_rows_that_a_prediction_leaves_out_are_counted(door: Door, tiny, tmp_path):
    answers = [{"aid": n, "atext": f"answer {n}"} for n in (1, 2)]
    rows = [{"qid": str(n), "qtext": "What is it?", "ra": 1, "answers": answers, "image": "x.png" * n} for n in (0, 1)]
    exam = tmp_path / "exam.json"
    exam.write_text(json.dumps({"exams": {"a": {"category": "b", "data": rows}}}))
    told = door.run(
        "predict", tiny("classify"), "--data", exam, "--out", tmp_path / "answers.jsonl", "--format", "head_qa"
    )
    assert "answers.jsonl: 1 cases" in told
    assert "1 rows have no answer here: question needs its image" in told


def test_predict_abstains_by_the_threshold_that_the_calibration_split_taught(door: Door, tiny, dev, tmp_path):
    split = write_cases(tmp_path / "split.jsonl", 40, seed=3)
    door.evaluate(tiny("classify"), dev, *FORMAT, "--calibration", split)
    taught = json.loads((door.out / "calibration.json").read_text())
    out = tmp_path / "answers.jsonl"
    for limit, abstains in ((0.0, False), (1.1, True), (None, True)):
        (door.out / "calibration.json").write_text(json.dumps(taught | {"risk_5": limit}))
        door.run("predict", tiny("classify"), "--data", dev, "--out", out, *FORMAT, "--calibration", door.out)
        assert {row["abstain"] for row in read(out)} == {abstains}


def test_a_generator_chooses_among_the_diagnoses_of_its_evaluation(door: Door, tiny, dev, tmp_path):
    split = write_cases(tmp_path / "split.jsonl", 40, seed=3)
    words = ("predict", tiny("generate"), "--data", dev, "--out", tmp_path / "answers.jsonl", *FORMAT)
    error, fix = door.refuse(*words)
    assert "has no diagnoses of its own" in error and "--calibration" in fix
    door.evaluate(tiny("generate"), dev, *FORMAT, "--calibration", split)
    door.run(*words, "--calibration", door.out)
    found = read(tmp_path / "answers.jsonl")
    assert len(found) == 60 and {row["predicted"] for row in found} <= set(LABELS)
    assert {row["name"] for row in found} <= set(NAMES)


def test_a_backbone_without_a_head_has_nothing_to_choose_from(door: Door, tiny, dev):
    error, _ = door.refuse("predict", tiny("bare"), "--data", dev, "--out", "x.csv", *FORMAT)
    assert "has no diagnoses to choose from" in error


def test_a_calibration_of_another_model_is_refused(door: Door, tiny, dev, tmp_path):
    (tmp_path / "calibration.json").write_text('{"model": "another", "temperature": 1, "risk_5": null}')
    words = ("predict", tiny("classify"), "--data", dev, "--out", "x.csv", *FORMAT, "--calibration", tmp_path)
    error, _ = door.refuse(*words)
    assert "was learned for another model" in error
    assert not list(door.folder.glob(".x.csv*"))


def test_an_ending_that_says_nothing_is_refused(door: Door, tiny, dev):
    error, _ = door.refuse("predict", tiny("classify"), "--data", dev, "--out", "answers", *FORMAT)
    assert "cannot tell what to write into answers" in error


@pytest.mark.parametrize(
    "values",
    [
        [],
        {},
        "x",
        {"temperature": 1.0},
        {"temperature": "warm", "risk_5": None, "labels": ["a"], "label_names": ["a"]},
        {"temperature": 0, "risk_5": None, "labels": ["a"], "label_names": ["a"]},
    ],
)
def test_a_calibration_file_of_another_shape_is_refused(door: Door, tiny, dev, tmp_path, values):
    if "labels" in values:
        values["model"] = open_model(str(tiny("classify")), tmp_path).hash
    (tmp_path / "calibration.json").write_text(json.dumps(values))
    words = ("predict", tiny("classify"), "--data", dev, "--out", "x.csv", *FORMAT, "--calibration", tmp_path)
    error, _ = door.refuse(*words)
    assert error.endswith("calibration.json is no calibration")


def test_a_place_that_cannot_be_written_is_refused(door: Door, tiny, dev):
    error, fix = door.refuse("evaluate", tiny("classify"), "--data", dev, "--out", "/proc", *FORMAT)
    assert error.startswith("cannot write to /proc") and "--out" in fix
    error, fix = door.refuse("predict", tiny("classify"), "--data", dev, "--out", "/proc/x.csv", *FORMAT)
    assert error.startswith("cannot write to /proc") and "--out" in fix


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda config: [config], "is no JSON object"),
        (lambda config: {**config, "num_attention_heads": 5}, "is not a multiple of the number of attention heads (5)"),
    ],
)
def test_a_config_that_transformers_cannot_take_is_refused(door: Door, tiny, dev, tmp_path, change, said):
    folder = tmp_path / "model"
    shutil.copytree(tiny("classify"), folder)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(change(config)))
    error, _ = door.refuse(*evaluate(door, folder, dev, *FORMAT))
    assert said in error
