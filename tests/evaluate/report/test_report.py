"""The page: whole, escaped, self-contained, the same each time, and silent on single patients."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from distmed.cases.case import Case
from distmed.errors import UserError
from distmed.evaluate.diagnosed import Diagnosed, write_predictions
from distmed.evaluate.evidence import evidence
from distmed.evaluate.figure import hashed, undefined, untold
from distmed.evaluate.labels import LabelSpace
from distmed.evaluate.report import write_report
from distmed.evaluate.report.page import confusion_matrix, interval_text, number, points, value_text
from tests.evaluate.report.conftest import CLASSES, RARE, about

Make = Callable[..., Path]


class Words(HTMLParser):
    """What a reader sees, and the tags that stay open."""

    VOID = frozenset({"meta", "img", "input", "br"})

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] not in ("style", "script"):
            self.text += f"{data} "


def words(folder: Path) -> str:
    parser = Words()
    parser.feed(write_report(folder).read_text(encoding="utf-8"))
    assert parser.open == []
    return " ".join(parser.text.split())


def test_every_part_is_there(folder: Make, metrics: Any) -> None:
    text = words(folder())
    values, _ = metrics
    for part in (
        "Headline", "ROC curve", "Precision–recall curve", "Reliability diagram", "Risk–coverage curve", "Comparison",
        "Against the linear floor", "Worst pairs", "Diseases", "By sex", "By age", "Largest gap", "Spelling mistakes",
        "What was evaluated", "Speed", "Integrity", "Limits and intended use", "TRIPOD-LLM", "Not a medical device",
    ):  # fmt: skip
        assert part in text, part
    top = values["top1"]
    assert f"{100 * top['value']:.1f}\u00a0%".replace("\u00a0", " ") in text
    # 300 cases in 60 groups: Wilson's interval, which takes cases as independent, is nowhere to be read.
    assert text.count(f"{100 * top['cluster_low']:.1f}–{100 * top['cluster_high']:.1f}") >= 3
    assert f"{100 * top['low']:.1f}–{100 * top['high']:.1f}" not in text
    sensitivity = values["per_disease"][0]["sensitivity"]
    assert f"{sensitivity['cluster_low']:.3f}–{sensitivity['cluster_high']:.3f}" in text
    for note in values["notes"]:
        assert note in text


def test_nothing_is_fetched_from_anywhere(folder: Make) -> None:
    page = write_report(folder()).read_text(encoding="utf-8")
    assert not re.findall(r"(?:src|href)=[\"'](?!#)", page)
    assert not re.findall(r"url\(|@import|https?://", page)


def test_names_from_the_data_are_only_text(folder: Make) -> None:
    page = write_report(folder()).read_text(encoding="utf-8")
    assert "<img src=x" not in page
    assert "&lt;img src=x onerror=alert(1)&gt; &amp;" in page
    assert page.count("<script>") == 1


def test_the_same_files_give_the_same_page(folder: Make) -> None:
    place = folder()
    first = write_report(place).read_bytes()
    assert write_report(place).read_bytes() == first


def test_diseases_and_groups_of_few_patients_are_not_told_unless_asked(folder: Make, metrics: Any) -> None:
    _, scored = metrics
    text = words(folder())
    assert f"Disease number {RARE} OMIM:{RARE} < 5 — — — — — — — —" in text
    assert "80-89 < 5 — — —" in text
    told, _ = evidence(scored, None, small_cells=True)
    told = {name: told[name] for name in ("per_disease", "subgroups")}
    shown = words(folder(**told, about=about("diagnosis", small_cells=True)))
    assert f"Disease number {RARE} OMIM:{RARE} 3 " in shown
    assert "80-89 3 " in shown


def test_single_patients_are_shown_by_hash_and_only_when_asked(folder: Make) -> None:
    assert "Surest wrong answers" not in words(folder())
    asked = words(folder(about=about("diagnosis", small_cells=True)))
    assert "Surest wrong answers" in asked
    assert "patient-" not in asked
    assert any(hashed(f"patient-{n}") in asked for n in range(300))


def test_one_of_several_diagnoses_named_first_is_no_wrong_answer(tmp_path: Path, metrics: Any) -> None:
    labels = ["OMIM:1", "OMIM:2", "OMIM:3"]
    golds = ["OMIM:1;OMIM:2", "OMIM:2;OMIM:9", "OMIM:3", "OMIM:9"]
    golds_and = enumerate([*golds, "OMIM:2|OMIM:3"])
    cases = [Case(id=f"p{n}", kind="diagnosis", group=str(n), findings=("x",), label=gold) for n, gold in golds_and]
    table = pa.table(
        {
            "scores": pa.array([[0.1, 0.8, 0.1]] * 4 + [[0.9, 0.0, 0.1]], pa.list_(pa.float32())),
            "prompt_hash": ["0"] * 5,
            "tokens": pa.array([9] * 5, pa.int32()),
            "cut": [False] * 5,
        }
    )
    asked = about("diagnosis", small_cells=True)
    scored = Diagnosed.of(cases, table, LabelSpace(labels, ["a", "b", "c"]))
    write_predictions(tmp_path / "predictions.parquet", scored, asked, None)
    (tmp_path / "metrics.json").write_text(json.dumps({**metrics[0], "about": asked}))
    text = words(tmp_path)
    assert [n for n in range(5) if hashed(f"p{n}") in text] == [2, 3, 4]


def test_the_limits_tell_how_many_draws_there_were(folder: Make, metrics: Any) -> None:
    assert "bootstrap over whole groups (1,000 draws) for the rest" in words(folder())
    fewer = {**metrics[0]["auroc_macro"], "method": "bootstrap by group, 444 draws"}
    assert "bootstrap over whole groups (444 to 1,000 draws) for the rest" in words(folder(auroc_macro=fewer))


def test_a_class_without_a_case_is_undefined_and_not_zero(folder: Make) -> None:
    text = words(folder())
    assert "1 diagnoses without a case: all their figures are undefined, n = 0" in text
    assert f"{CLASSES - 1} of the model's {CLASSES} diagnoses have a case here" in text


@pytest.mark.parametrize(("origin", "said"), [("model", "of the model"), ("data", "of these cases")])
def test_the_page_says_whose_diagnoses_they_are(origin: str, said: str, folder: Make, metrics: Any) -> None:
    assert f"{CLASSES} {said}, {CLASSES - 1} with a case here" in words(
        folder(labels={**metrics[0]["labels"], "from": origin})
    )


def test_diseases_of_one_name_have_rows_of_their_own_in_the_matrix(metrics: Any) -> None:
    rows = [{**row, "name": "deafness"} for row in metrics[0]["per_disease"] if row["n"] and not row["few"]][:2]
    labels = [row["label"] for row in rows]
    pair = {"gold": "deafness", "predicted": "deafness", "n": 7}
    pairs = [{**pair, "gold_label": labels[0], "predicted_label": labels[1]}]
    matrix = confusion_matrix({"about": about("diagnosis", small_cells=True), "confusion": pairs, "per_disease": rows})
    assert matrix is not None
    right = [round(row["sensitivity"]["value"] * row["n"]) for row in rows]
    assert matrix["cells"] == [[right[0], 7], [None, right[1]]]
    assert matrix["names"] == [f"deafness ({label})" for label in labels]


def test_what_is_undefined_says_why(folder: Make) -> None:
    text = words(folder(auroc_macro=undefined("undefined, n=0"), top1=undefined("undefined, n=0")))
    assert "undefined, n=0" in text
    assert "nothing could be scored" in text


def test_a_failed_check_stands_first(folder: Make, metrics: Any) -> None:
    integrity = json.loads(json.dumps(metrics[0]["integrity"]))
    integrity["checks"][0] |= {"passed": False, "detail": "299 of 300"}
    text = words(folder(integrity=integrity))
    assert "Check failed: every case is answered once. 299 of 300" in text
    assert text.index("Check failed") < text.index("Headline Right")


def test_a_figure_without_words_is_shown_by_its_name(folder: Make) -> None:
    text = words(folder(novelty={"value": 0.125, "low": None, "high": None, "n": 3, "method": "counted"}))
    assert "Other figures" in text
    assert "novelty 0.125" in text


def test_cases_of_one_paper_have_no_interval_on_the_page(folder: Make, metrics: Any) -> None:
    one = {"cluster_low": None, "cluster_high": None, "cluster_method": "no interval: one group"}
    text = words(folder(top1=metrics[0]["top1"] | one))
    assert "of 300 cases (no interval: one group)." in text


def test_exam_questions_have_their_own_headline(exam: Path) -> None:
    text = words(exam)
    for part in (
        "The model chose the right option in",
        "chance is 25.0",
        "Written answer",
        "Answers that change with the order",
        "place of the right option",
        "5 solved examples",
    ):
        assert part in text, part
    assert "Mean sensitivity" not in text


def test_counts_of_few_questions_are_hidden_and_their_order_not_shown(exam: Path) -> None:
    path = exam / "metrics.json"
    values = json.loads(path.read_text())
    places = values["choice"]["position_bias"]["accuracy_by_place"]
    places.append(untold(place="E", chosen=None))
    path.write_text(json.dumps(values))
    chosen = words(exam).partition("Chosen over all rotations:")[2].partition(".")[0]
    assert chosen.startswith(" A ") and " E" not in words(exam).partition("Chosen over")[2][:60]
    values["choice"] |= {"ties": None, "unlabelled": None, "position_bias": None}
    path.write_text(json.dumps(values))
    text = words(exam)
    assert "< 5 questions had two equally likely letters" in text and "< 5 questions without a known answer" in text
    assert "Fewer than 5 of these questions have options whose order could change." in text


def test_a_page_needs_only_metrics(folder: Make, metrics: Any) -> None:
    place = folder()
    for name in ("predictions.parquet", "speed.json"):
        (place / name).unlink()
    least = {name: metrics[0][name] for name in ("about", "top1", "notes")}
    (place / "metrics.json").write_text(json.dumps(least))
    assert "The model named the right diagnosis first" in words(place)


@pytest.mark.parametrize(
    ("content", "message"),
    [(None, "has no metrics.json"), ("{", "is no JSON"), ("[]", "is not what"), ("{}", "is not what")],
)
def test_a_missing_or_broken_file_is_told(content: str | None, message: str, tmp_path: Path) -> None:
    if content is not None:
        (tmp_path / "metrics.json").write_text(content)
    with pytest.raises(UserError, match=message):
        write_report(tmp_path)


def test_numbers_as_they_are_written() -> None:
    figure = {"value": -0.0312, "low": -0.05, "high": 0.0125}
    assert (value_text(figure), value_text(figure, True)) == ("−0.031", "−3.1\u00a0%")
    assert (interval_text(figure), interval_text(figure, True)) == ("−0.050 to 0.013", "−5.0 to 1.2\u00a0%")
    assert [number(n) for n in (None, 1226, 41230.4, 0.01234)] == ["—", "1,226", "41,230", "0.0123"]
    assert points(0.125) == "+12.5"
