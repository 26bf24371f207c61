"""`distmed evaluate` over exam questions, from a file to the report; a model that knows nothing sits at chance."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from distmed.evaluate.choice import COLUMNS
from distmed.model.builtin import make_tiny_llama
from tests.evaluate.door import Door


@pytest.fixture(scope="module")
def decoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a random decoder that reads 736 tokens."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    folder = tmp_path_factory.mktemp("decoder")
    make_tiny_llama(folder, [f"Which drug treats disease {n}?" for n in range(99)], vocab_size=400, max_positions=800)
    config = AutoConfig.from_pretrained(folder)
    config.update({"num_hidden_layers": 2, "hidden_size": 96})
    torch.manual_seed(0)
    AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    return folder


def write_exam(path: Path, questions: int, start: int = 0) -> Path:
    """MMLU's layout: no header line; question, four options, the letter of the right one."""
    with path.open("w", newline="") as file:
        for n in range(start, start + questions):
            options = [f"drug {n + k}" for k in range(4)]
            csv.writer(file).writerow([f"Which drug treats disease {n}?", *options, "ABCD"[n % 4]])
    return path


def test_an_exam_from_file_to_report(door: Door, decoder: Path, tmp_path: Path) -> None:
    data, train = write_exam(tmp_path / "test.csv", 12), write_exam(tmp_path / "train.csv", 6, start=50)
    words = ("--format", "mmlu", "--train", train, "choice.shots=1", "choice.chat=never", "choice.max_new_tokens=4")
    metrics = door.evaluate(decoder, data, *words)
    section = metrics["choice"]
    assert metrics["top1"]["value"] == section["letter"]["value"]
    assert section["n"] == 12
    assert section["chance"] == 0.25
    assert section["shots"] == {"mean": 1.0, "least": 1}
    assert metrics["about"]["prompt"]["choice"]["shots"] == 1
    assert {row["name"] for row in metrics["robustness"]} == {"typos", "case", "irrelevant_sentence"}
    table = pq.read_table(door.out / "predictions.parquet")
    assert table.num_rows == 12
    assert set(COLUMNS) < set(table.column_names)
    assert "Which drug" not in json.dumps(table.drop(["generated"]).to_pylist())
    report = (door.out / "report.html").read_text()
    assert "The model chose the right option" in report
    assert "Which drug" not in report


def test_questions_answered_in_words(door: Door, decoder: Path, tmp_path: Path) -> None:
    article = {"LABELS": ["AIM"], "CONTEXTS": ["We asked."], "QUESTION": "Does it help?", "LONG_ANSWER": "It does."}
    answers = ("yes", "no", "maybe", "yes")
    document = {str(n): {**article, "final_decision": said} for n, said in enumerate(answers)}
    (tmp_path / "pubmedqa.json").write_text(json.dumps(document))
    metrics = door.evaluate(decoder, tmp_path / "pubmedqa.json", "--format", "pubmedqa")
    assert metrics["choice"]["n"] == 4
    assert metrics["choice"]["position_bias"] is None
    assert metrics["choice"]["chance"] == pytest.approx(1 / 3)


def test_answers_that_are_no_candidate_are_refused(door: Door, decoder: Path, tmp_path: Path) -> None:
    article = {"LABELS": ["AIM"], "CONTEXTS": ["We asked."], "QUESTION": "Does it help?", "LONG_ANSWER": "It does."}
    (tmp_path / "pubmedqa.json").write_text(json.dumps({"1": {**article, "final_decision": "unclear"}}))
    what, how = door.refuse(
        "evaluate", decoder, "--data", tmp_path / "pubmedqa.json", "--format", "pubmedqa", "--out", door.out
    )
    assert "the right answer of 1 of 1 questions is none of" in what
    assert "choice.answers" in how


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("choice.shots=2",), "choice.shots=2, but train has 0 solved questions"),
        (('choice.letter_prompt="{{ question"',), "choice.letter_prompt is no template"),
    ],
)
def test_a_wrong_setting_is_told(
    words: tuple[str, ...], message: str, door: Door, decoder: Path, tmp_path: Path
) -> None:
    data = write_exam(tmp_path / "test.csv", 4)
    what, _ = door.refuse("evaluate", decoder, "--data", data, "--format", "mmlu", "--out", door.out, *words)
    assert message in what


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "format", "chance"),
    [("head_qa/dev_HEAD_EN.json", "head_qa", 1 / 4), ("pubmedqa/train.json", "pubmedqa", None)],
)
def test_a_random_decoder_sits_at_chance(
    name: str, format: str, chance: float | None, door: Door, decoder: Path, shared_data: Path, tmp_path: Path
) -> None:
    source = json.loads((shared_data / name).read_text(encoding="utf-8"))
    if format == "head_qa":
        exam = max(source["exams"].values(), key=lambda exam: len(exam["data"]))
        source = {"exams": {"one": {**exam, "data": exam["data"][:80]}}}
    else:
        source = dict(list(source.items())[:40])
    (tmp_path / "data.json").write_text(json.dumps(source))
    metrics: dict[str, Any] = door.evaluate(
        decoder, tmp_path / "data.json", "--format", format, "choice.chat=never", "choice.max_new_tokens=2"
    )
    section = metrics["choice"]
    assert section["generated"]["value"] <= section["letter"]["high"]
    if chance is not None:
        assert section["letter"]["low"] <= chance <= section["letter"]["high"]
        assert section["text"]["low"] <= chance <= section["text"]["high"]
        assert section["position_bias"]["debiased"]["low"] <= chance
    else:
        # Words are not rotated: a random decoder always says the same one, and scores as often as that is right.
        golds = pq.read_table(door.out / "predictions.parquet")["gold"].to_pylist()
        shares = {golds.count(word) / len(golds) for word in ("yes", "no", "maybe")}
        assert min(shares) - 0.2 <= section["letter"]["value"] <= max(shares) + 0.2
