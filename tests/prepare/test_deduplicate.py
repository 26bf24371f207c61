"""Deduplicate: the first of those that say the same stays, to the word and nearly; patients who are alike stay."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from distmed.prepare.deduplicate import find_duplicates, signatures
from distmed.prepare.wording import folded
from tests.prepare.conftest import WORDS, Prepared, PrepareDoor, note

Table = Callable[..., Path]


def run(prepare: PrepareDoor, table: Table, rows: list[dict[str, Any]], out: Path, *more: str) -> Prepared:
    return prepare(table(rows), "--no-deidentify", *more, out=out)


def texts(done: Prepared) -> list[str]:
    return [case.text for case in done.cases()]


def with_changes(text: str, share: float, seed: int) -> str:
    words = text.split()
    for at in random.Random(seed).sample(range(len(words)), round(share * len(words))):
        words[at] = f"changed{seed}x{at}"
    return " ".join(words)


def test_the_first_stays_whatever_case_marks_and_blanks(prepare: PrepareDoor, table: Table, tmp_path: Path) -> None:
    rows = [{"text": t, "label": "D"} for t in ("Fever, and cough.", "other", "fever  AND cough", "FEVER AND COUGH!")]
    done = run(prepare, table, rows, tmp_path / "out")
    assert texts(done) == ["Fever, and cough.", "other"]
    assert done.report["dropped"] == {"deduplicate": {"exact": 2}}
    assert done.report["clusters"] == 1


@pytest.mark.parametrize(
    ("one", "other", "both_stay"),
    [
        ("HIV (+), ER+/HER2-", "HIV (-), ER-/HER2+", True),
        ("BNP >100", "BNP <100", True),
        ("BNP > 100", "BNP < 100", True),
        ("lesion = 3 cm", "lesion > 3 cm", True),
        ("Rh \u2212, HBsAg -", "Rh +, HBsAg -", True),
        ("HIV(-)", "HIV", True),
        ("BNP >100", "bnp  > 100!", False),
        ("- fever\n- a well-known cough", "Fever: a well known cough.", False),
        ("HIV (\u2212), ER+", "hiv (-) er+", False),
    ],
)
def test_signs_of_a_result_tell_patients_apart_and_marks_of_layout_do_not(
    prepare: PrepareDoor, table: Table, tmp_path: Path, one: str, other: str, both_stay: bool
) -> None:
    done = run(prepare, table, [{"text": text, "label": "D"} for text in (one, other)], tmp_path / "out")
    assert texts(done) == ([one, other] if both_stay else [one])


@pytest.mark.parametrize(
    ("one", "other", "both_stay"),
    [
        ("ER+ HER2-", "ER+ HER2+", True),
        ("ER+ HER2-", "ER- HER2+", True),
        ("BNP > 100", "BNP >= 100", True),
        ("sodium 135 mmol", "sodium 125 mmol", True),
        ("metoprolol 5mg", "metoprolol 50mg", True),
        ("pulse 90, pressure 140", "pulse 140, pressure 90", True),
        ("HER2+, pulse 90", "Her2 (+); pulse: 90", False),
        ("calm", "quiet", False),
    ],
)
def test_long_texts_that_differ_in_a_result_alone_are_two_patients(
    prepare: PrepareDoor, table: Table, tmp_path: Path, one: str, other: str, both_stay: bool
) -> None:
    rows = [{"text": f"{note(1, 100)} {result} {note(2, 100)}", "label": "D"} for result in (one, other)]
    rows[1]["text"] += " end"  # nearly the same, never to the word
    assert len(texts(run(prepare, table, rows, tmp_path / "out"))) == (2 if both_stay else 1)


def test_near_duplicates_go_and_the_clusters_are_counted(prepare: PrepareDoor, table: Table, tmp_path: Path) -> None:
    originals = [note(n, 200) for n in range(40)]
    near = [with_changes(text, 0.01, n) for n, text in enumerate(originals[:10])]
    rows = [{"text": text, "label": "D"} for text in [*originals, *near]]
    done = run(prepare, table, rows, tmp_path / "out")
    assert texts(done) == originals
    assert done.report["dropped"] == {"deduplicate": {"near": 10}}
    assert done.report["clusters"] == 10


def test_half_the_same_is_not_the_same(prepare: PrepareDoor, table: Table, tmp_path: Path) -> None:
    rows = [
        {"text": text, "label": "D"} for n in range(10) for text in (note(n, 200), with_changes(note(n, 200), 0.2, n))
    ]
    assert len(texts(run(prepare, table, rows, tmp_path / "out"))) == 20


def test_a_short_text_with_another_word_is_another_patient(prepare: PrepareDoor, table: Table, tmp_path: Path) -> None:
    rows = [
        {"text": f"A man with cough, fever and pain in the {part} for a week", "label": "D"} for part in ("arm", "leg")
    ]
    assert len(texts(run(prepare, table, rows, tmp_path / "out"))) == 2


def test_the_same_text_under_two_labels_stays_and_is_told(prepare: PrepareDoor, table: Table, tmp_path: Path) -> None:
    rows = [{"text": note(1), "label": "A"}, {"text": note(1), "label": "B"}, {"text": note(2), "label": "A"}]
    done = run(prepare, table, rows, tmp_path / "out")
    assert len(done.cases()) == 3 and done.report["conflicts"] == 1
    assert "1 texts under several labels" in done.said


def test_patients_with_the_same_findings_are_two_patients(prepare: PrepareDoor, table: Table, tmp_path: Path) -> None:
    rows = [
        {"case_id": id, "pmid": "1", "sex": "MALE", "age": None, "phenotypes": ["Seizure"], "excluded": [], "disease_id": "D",
         "disease": "d"}
        for id in ("a", "b", "a")
    ]  # fmt: skip
    done = run(prepare, table, rows, tmp_path / "out", "--format", "phenopackets")
    assert [case.id for case in done.cases()] == ["a", "b"]


def test_turned_off_everything_stays(prepare: PrepareDoor, table: Table, tmp_path: Path) -> None:
    rows = [{"text": note(1), "label": "A"}] * 3
    done = run(prepare, table, rows, tmp_path / "out", "--no-deduplicate")
    assert len(done.cases()) == 3 and done.report["dropped"] == {}


def test_near_duplicates_are_found_at_nearly_every_similarity_above_the_threshold() -> None:
    draw = random.Random(7)
    pool = [f"{word}{n}" for word in WORDS for n in range(20)]
    pairs = []
    for _ in range(200):
        words = [draw.choice(pool) for _ in range(300)]
        other = [*words]
        for at in draw.sample(
            range(300), 6
        ):  # 6 changed words of 300 touch at most 18 of 298 triples: Jaccard about 0.89
            other[at] = draw.choice(pool)
        pairs += [" ".join(words), " ".join(other)]
    found = _duplicates([folded(text) for text in pairs])
    assert found.near_N[1::2].mean() > 0.98
    assert not found.near_N[0::2].any()


def test_a_chain_of_near_duplicates_is_one_cluster_of_which_the_first_stays() -> None:
    chain = [note(1, 300)]
    for n in range(5):
        chain.append(with_changes(chain[-1], 0.015, n))
    found = _duplicates(chain)
    assert found.near_N.tolist() == [False] + [True] * 5 and found.clusters == 1


def test_rows_without_any_signature_are_no_trouble() -> None:
    found = _duplicates(["a b", "c d"])
    assert not found.near_N.any() and not found.exact_N.any()


def _duplicates(items: list[str]) -> Any:
    signed = [(i, s) for i, s in enumerate(signatures(items)) if s is not None]
    rows = np.array([i for i, _ in signed], dtype=np.int64)
    matrix = np.stack([s for _, s in signed]) if signed else np.empty((0, 120), dtype=np.uint32)
    keys = np.arange(len(items), dtype=np.uint64)
    return find_duplicates(keys, keys, np.zeros(len(items), dtype=np.int32), rows, matrix)
