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


def test_two_models_and_the_floors_are_held_against_the_letters(door: Door, decoder: Path, tmp_path: Path) -> None:
    # In train and test the words of a question tell its answer, so a line gets all of them right.
    data, train = (write_exam(tmp_path / f"{name}.csv", 12, start=20) for name in ("test", "train"))
    words = ("--format", "mmlu", "--train", train, "--against", decoder, "choice.chat=never", "choice.max_new_tokens=2")
    metrics = door.evaluate(decoder, data, *words)
    rows = {row["with"]: row for row in metrics["comparison"]}
    assert set(rows) == {"model", "linear floor", "majority floor"}
    same = rows["model"]
    assert set(same["figures"]) == {"letter", "text", "text_normalized", "generated"}
    assert all(pair["difference"]["value"] == pair["difference"]["high"] == 0 for pair in same["figures"].values())
    assert same["mcnemar"]["p"] == 1
    assert rows["linear floor"]["figures"]["letter"]["other"] == 1
    assert rows["majority floor"]["figures"]["letter"]["other"] == 0.25
    assert "Against the linear floor" in (door.out / "report.html").read_text()


def test_a_floor_gives_only_answers_that_the_question_offers(door: Door, decoder: Path, tmp_path: Path) -> None:
    def exam(path: Path, options: int, right: int) -> Path:
        answers = [{"aid": k + 1, "atext": f"drug {k}"} for k in range(options)]
        asked = [
            {"qid": str(n), "qtext": f"Question {n}?", "ra": str(right), "answers": answers, "image": ""}
            for n in range(6)
        ]
        data = {"name": path.stem, "category": "medicine", "year": "2020", "data": asked}
        path.write_text(json.dumps({"version": "1", "language": "en", "exams": {path.stem: data}}))
        return path

    # In train the fifth option is always right; the test has four.
    train, data = exam(tmp_path / "train.json", 5, 5), exam(tmp_path / "test.json", 4, 2)
    words = ("--format", "head_qa", "--train", train, "choice.chat=never", "choice.max_new_tokens=2")
    metrics = door.evaluate(decoder, data, *words)
    floors = {row["with"]: row["figures"]["letter"]["other"] for row in metrics["comparison"]}
    assert floors == {"linear floor": 0, "majority floor": 0}


@pytest.mark.parametrize("option", ["--calibration", "--map"])
def test_options_for_diagnoses_are_refused(option: str, door: Door, decoder: Path, tmp_path: Path) -> None:
    data, other = write_exam(tmp_path / "test.csv", 4), write_exam(tmp_path / "other.csv", 4, start=9)
    words = ("evaluate", decoder, "--data", data, "--format", "mmlu", "--out", door.out)
    what, how = door.refuse(*words, option, other)
    assert f"{option} is for diagnoses" in what and option in how


def test_a_model_that_never_answers_with_a_letter_is_wrong_and_told(
    door: Door, decoder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "distmed.evaluate.choice.scorer.generate",
        lambda _network, _tokenizer, prompts, **_: ["I cannot tell."] * len(prompts),
    )
    metrics = door.evaluate(decoder, write_exam(tmp_path / "test.csv", 12), "--format", "mmlu", "choice.chat=never")
    section = metrics["choice"]
    assert (section["generated"]["value"], section["generated"]["n"]) == (0, 12)
    assert section["unparsed"]["value"] == 1
    assert pq.read_table(door.out / "predictions.parquet")["parsed"].null_count == 12
    assert "Answers that could not be read" in (door.out / "report.html").read_text()


def test_a_question_that_is_too_long_is_cut_and_told(door: Door, decoder: Path, tmp_path: Path) -> None:
    data = write_exam(tmp_path / "test.csv", 4)
    data.write_text(data.read_text() + f"{'Which drug? ' * 900},1,2,3,4,A\n")
    metrics = door.evaluate(decoder, data, "--format", "mmlu", "choice.chat=never", "choice.max_new_tokens=2")
    assert metrics["integrity"]["cut"] == 1
    assert "1 prompts were longer than the model reads and were cut." in metrics["notes"]
    assert metrics["choice"]["n"] == 5


def test_likelihoods_that_are_not_finite_are_told(door: Door, decoder: Path, tmp_path: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model = AutoModelForCausalLM.from_pretrained(decoder)
    with torch.no_grad():
        model.lm_head.weight.fill_(float("nan"))
    model.save_pretrained(tmp_path / "broken")
    AutoTokenizer.from_pretrained(decoder).save_pretrained(tmp_path / "broken")
    data = write_exam(tmp_path / "test.csv", 4)
    words = ("evaluate", tmp_path / "broken", "--data", data, "--format", "mmlu", "--out", door.out)
    what, _ = door.refuse(*words, "choice.chat=never", "choice.max_new_tokens=2")
    assert "the scores of 4 of 4 questions are not finite" in what


def test_one_question(door: Door, decoder: Path, tmp_path: Path) -> None:
    data = write_exam(tmp_path / "test.csv", 1)
    metrics = door.evaluate(decoder, data, "--format", "mmlu", "choice.chat=never", "choice.max_new_tokens=2")
    assert metrics["top1"]["n"] == metrics["choice"]["position_bias"]["n"] == 1
    assert metrics["choice"]["position_bias"]["spread"]["method"] == "no interval: one group"


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
        # Words are not rotated: a random decoder says nearly always the same one, and is right as often as that is.
        assert section["balanced"]["letter"]["value"] == pytest.approx(1 / 3, abs=0.1)
