"""Augment: rare classes get variants in training and nowhere else, the same every time, and marked."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np

from distmed.cases.case import Case
from distmed.prepare.augment import MARK, plan, variants
from tests.prepare.conftest import PrepareDoor, rows_of

CASE = Case(
    id="c",
    kind="diagnosis",
    group="g",
    text="History of myocardial infarction and HTN. No dyspnea.",
    findings=tuple(f"finding {n}" for n in range(12)),
    excluded=("fever", "hypertension", "rash"),
    label="D1",
    label_name="myocardial infarction",
    messages=(("user", "myocardial infarction?"), ("assistant", "myocardial infarction")),
    subgroups={"sex": "female"},
)


def test_rare_labels_reach_the_floor_in_train_alone(
    prepare: PrepareDoor, table: Callable[..., Path], tmp_path: Path
) -> None:
    rows = [row for row in rows_of(600) if row["label"] != "D0" or int(row["patient"][1:]) < 80]
    options = ("--no-deidentify", "--group-by", "patient")
    plain = prepare(table(rows), *options, out=tmp_path / "plain")
    done = prepare(table(rows), *options, "--augment", 100, out=tmp_path / "out")
    before, after = (Counter(case.label for case in d.cases("train")) for d in (plain, done))
    assert before["D0"] < 60
    assert after == {label: max(100, count) for label, count in before.items()}
    marked = [case for case in done.cases("train") if MARK in case.subgroups]
    assert {case.label for case in marked} == {"D0"} and len(marked) == done.report["splits"]["train"]["augmented"]
    assert all("~" in case.id for case in marked) and len({case.id for case in marked}) == len(marked)
    for name in ("dev", "test"):
        assert done.cases(name) == plain.cases(name)


def test_the_floor_is_met_evenly() -> None:
    labels = np.array([0, 0, 0, 1, 1, -1, 0], dtype=np.int32)
    train = np.array([True] * 6 + [False])
    assert plan(labels, train, 7).tolist() == [2, 1, 1, 3, 2, 0, 0]
    assert plan(labels, train, 0).sum() == 0
    assert plan(labels, np.zeros(7, dtype=bool), 5).sum() == 0


def test_variants_change_words_findings_and_their_order_but_no_answer() -> None:
    made = list(variants(CASE, 30, seed=1))
    assert made == list(variants(CASE, 30, seed=1)) != list(variants(CASE, 30, seed=2))
    assert [case.id for case in made[:2]] == ["c~1", "c~2"]
    assert {(case.label, case.label_name, case.group, case.messages[1]) for case in made} == {
        ("D1", "myocardial infarction", "g", ("assistant", "myocardial infarction"))
    }
    assert len({case.text for case in made}) > 4
    kept = [len(case.findings) for case in made]
    assert 8 < sum(kept) / 30 < 12 and min(kept) < 12
    assert len({case.findings for case in made}) == 30
    assert all(set(case.findings) <= set(CASE.findings) for case in made)
    assert all("dropout" in case.subgroups[MARK] or case.subgroups[MARK] for case in made)
    assert all(case.subgroups["sex"] == "female" for case in made)


def test_a_case_keeps_at_least_one_finding() -> None:
    single = Case(id="c", kind="diagnosis", group="g", findings=("fever",), label="D")
    assert {case.findings for case in variants(single, 50, seed=1)} == {("fever",)}


def test_a_case_that_cannot_vary_is_a_marked_copy() -> None:
    plain = Case(id="c", kind="diagnosis", group="g", text="cough", label="D")
    assert [case.subgroups[MARK] for case in variants(plain, 2, seed=1)] == ["copy", "copy"]
