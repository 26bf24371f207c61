"""What is told of one to four patients: nothing in any part of metrics.json or of the page, unless it was asked for."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from distmed.evaluate.cells import without_small_cells
from distmed.evaluate.figure import proportion
from tests.evaluate.conftest import LABELS, write_cases
from tests.evaluate.door import Door

pytestmark = pytest.mark.slow

FORMAT = ("--format", "phenopackets")
COUNTS_OF_NO_PATIENTS = re.compile(
    r"\.about\.|\.labels\.(model|present)$|\.confusion_suppressed$|\.integrity\.|\.calibration\.bins$"
)


def few_in(value: Any, path: str = "") -> Iterator[str]:
    """Where a count of 1 to 4 stands."""
    if isinstance(value, dict | list):
        for key, inner in value.items() if isinstance(value, dict) else enumerate(value):
            yield from few_in(inner, f"{path}.{key}")
    elif type(value) is int and 1 <= value <= 4 and not COUNTS_OF_NO_PATIENTS.search(path):
        yield path


def some(tmp_path: Path, few: int) -> tuple[Path, Path, Path]:
    """Data in which every kind of cell has `few` patients: unknown and several diagnoses, a rare one, an odd sex."""
    dev = write_cases(tmp_path / "dev.jsonl", 40, LABELS[:3])
    parts: dict[str, dict[str, Any]] = {
        "unknown": {"disease_id": "ORPHA:1", "disease": "gout"},
        "several": {"disease_id": f"{LABELS[0]};{LABELS[1]}", "disease": "two"},
        "rare": {"disease_id": LABELS[3], "disease": "Wilson disease", "sex": "UNKNOWN_SEX"},
    }
    text = dev.read_text()
    for name, changes in parts.items():
        text += write_cases(tmp_path / f"{name}.jsonl", few, **changes).read_text()
    dev.write_text(text)
    return dev, write_cases(tmp_path / "train.jsonl", 40), write_cases(tmp_path / "cal.jsonl", 40)


@pytest.mark.parametrize("few", [1, 4])
def test_no_count_of_one_to_four_patients_is_told_anywhere(door: Door, tiny, tmp_path, few):
    dev, train, calibration = some(tmp_path, few)
    options = (*FORMAT, "--train", train, "--calibration", calibration)
    metrics = door.evaluate(tiny("classify"), dev, *options)
    assert list(few_in(metrics)) == []
    out = metrics["out_of_set"]
    assert out["cases"] is out["several"]["cases"] is None
    assert out["confidence"]["value"] is out["share"]["value"] is out["several"]["top1"]["value"] is None
    assert "fewer than 5 patients have a diagnosis that the model does not know" in " ".join(metrics["notes"])
    page = re.sub(
        r"<(style|script)>.*?</\1>|<svg.*?</svg>", "", (door.out / "report.html").read_text(), flags=re.DOTALL
    )
    assert re.findall(r"\b[1-4] (?:cases(?!/s)|patients|with several|without a label)", page) == []
    assert re.findall(r"data-v=\"[1-4]\">[1-4]<|(?<!percentile, )n = [1-4]\b|class=\"num n?\">[1-4]<", page) == []
    assert "&lt; 5 with several" in page and "fewer than 5 patients have" in page
    told = door.evaluate(tiny("classify"), dev, *options, "--small-cells")
    assert told["out_of_set"]["cases"] == told["out_of_set"]["several"]["cases"] == few
    assert f"{few} with several" in (door.out / "report.html").read_text()


def test_of_three_patients_in_all_the_totals_are_told_and_no_part_of_them(door: Door, tiny, tmp_path):
    train = write_cases(tmp_path / "train.jsonl", 40)
    metrics = door.evaluate(tiny("classify"), write_cases(tmp_path / "dev.jsonl", 3), *FORMAT, "--train", train)
    assert metrics["top1"]["n"] == metrics["comparison"][0]["n"] == 3
    assert metrics["subgroups"]["sex"]["groups"][0]["n"] is None
    assert all(row["n"] is None and row["flips"]["value"] is None for row in metrics["robustness"])
    assert (door.out / "report.html").is_file()


@pytest.mark.parametrize("few", [1, 2, 3, 4])
def test_every_kind_of_cell_is_hidden_and_zero_and_five_are_told(few: int) -> None:
    def cells(n: int) -> dict[str, Any]:
        rate, share = proportion(0, n), proportion(n, 50)
        row = {"name": "typos", "n": n, "before": 0.25, "after": 0.5, "change": rate, "flips": rate}
        return {
            "top1": proportion(30, 50),
            "accuracy_at_80": rate,
            "out_of_set": {"cases": n, "share": share, "unlabelled": n, "several": {"cases": n, "top1": rate}},
            "conformal": {"empty": n, "sizes": {"1": n, "2": 40}},
            "comparison": [{"mcnemar": {"only_this": n, "only_other": n, "p": 0.5}, "figures": {}}],
            "robustness": [row],
            "labels": {"mapped": n, "present": 3},
        }

    told = without_small_cells(cells(few))
    assert [path for path in few_in(told) if not path.endswith("present")] == []
    assert (
        told["robustness"][0]["before"]
        is told["robustness"][0]["after"]
        is told["out_of_set"]["share"]["value"]
        is None
    )
    assert told["conformal"]["sizes"] == {"1": None, "2": 40}
    for n in (0, 5):
        assert without_small_cells(cells(n)) == cells(n)
