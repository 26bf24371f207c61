"""What the floors promise: the known figures on real cases, and an answer for every odd input."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from distmed.cases.case import Case
from distmed.evaluate.floor import linear_floor, linear_scores, majority_floor


def case(number: int, label: str | None, **fields) -> Case:
    return Case(id=str(number), kind="diagnosis", group=str(number), label=label, **fields)


@pytest.fixture
def vignettes() -> list[Case]:
    texts = {"gout": "sudden pain in the big toe", "flu": "fever and cough", "cold": "runny nose without fever"}
    return [
        case(i, label, text=text, subgroups={"sex": "male"})
        for i, (label, text) in enumerate(sorted(texts.items()) * 8)
    ]


def test_free_text_is_learned_by_words(vignettes):
    metrics = linear_floor(vignettes, vignettes)
    assert metrics["diag/top1"] == 1
    assert metrics["diag/top1/sex=male"] == 1


def test_excluded_finding_differs_from_found_one():
    train = [case(i, label, findings=("Fever",) * yes, excluded=("Fever",) * (1 - yes))
             for i, (label, yes) in enumerate([("flu", 1), ("gout", 0)] * 5)]  # fmt: skip
    assert linear_floor(train, train)["diag/top1"] == 1


def test_finding_is_one_token_and_not_its_words():
    train = [case(0, "a", findings=("Short nose", "Long arm")), case(1, "b", findings=("Long nose", "Short arm"))] * 4
    scores = linear_scores(train, [case(9, "a", findings=("Short nose",))])
    assert scores is not None
    assert scores[0][0, 0] > 0.8


def test_label_never_trained_counts_as_wrong(vignettes):
    metrics = linear_floor(vignettes, [*vignettes, case(99, "measles", text="rash")])
    assert metrics["diag/top1"] == pytest.approx(24 / 25)


def test_majority_answers_with_the_most_frequent_disease():
    train = [case(i, "flu" if i < 6 else "gout") for i in range(10)]
    metrics = majority_floor(train, [case(0, "flu"), case(1, "gout"), case(2, "gout"), case(3, "gout")])
    assert metrics["diag/top1"] == 0.25
    assert metrics["diag/macro_f1"] == pytest.approx((2 / 5) / 2)
    assert metrics["diag/auroc_macro"] == 0.5
    assert metrics["diag/brier"] == pytest.approx((0.32 + 3 * 0.72) / 4)


def test_single_disease_and_unlabelled_cases_do_not_crash(vignettes):
    only = [c for c in vignettes if c.label == "flu"]
    assert linear_floor(iter(only), iter(vignettes))["diag/top1"] == pytest.approx(1 / 3)
    assert linear_floor(vignettes, [case(0, None, text="fever")]) == {}
    assert majority_floor([], vignettes) == {}


def closed_set(path: Path) -> list[Case]:
    rows = [json.loads(line) for line in path.open(encoding="utf-8")]
    return [
        Case(
            id=row["case_id"],
            kind="diagnosis",
            group=row["pmid"],
            findings=tuple(row["phenotypes"]),
            excluded=tuple(row["excluded"]),
            sex={"FEMALE": "female", "MALE": "male"}.get(row["sex"]),
            label=row["disease_id"],
        )
        for row in rows
        if row["closed_set"]
    ]


@pytest.mark.slow
def test_known_figures_on_published_cases(shared_data):
    train, dev = (closed_set(shared_data / "phenopackets" / f"{part}.jsonl") for part in ("train", "dev"))
    metrics = linear_floor(train, dev)
    assert metrics["diag/top1"] == pytest.approx(0.867, abs=0.005)
    assert metrics["diag/top3"] == pytest.approx(0.948, abs=0.005)
    assert metrics["diag/macro_f1"] == pytest.approx(0.682, abs=0.01)
