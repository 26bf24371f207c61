"""Evidence that is not about every case, once, fails its own checks."""

from __future__ import annotations

import pytest

from distmed.cases.case import Case
from distmed.errors import UserError
from distmed.evaluate.figure import figure, proportion
from distmed.evaluate.integrity import check_ids, integrity, rounded

CASES = [Case(id=f"case {n}", kind="diagnosis", group="1", text="fever", label="flu") for n in range(3)]


def failed(cases=CASES, hashes=("a", "b", "c"), cut=0, top1=None):
    section = integrity(cases, hashes, cut, top1 or proportion(2, 3), "d")
    return {check["name"] for check in section["checks"] if not check["passed"]}


def test_whole_evidence_passes():
    assert failed() == set()


def test_what_is_missing_lost_or_cut_fails():
    assert failed(hashes=("a", "", "c")) == failed(hashes=("a", "b")) == {"every case is answered once"}
    assert failed(cases=[*CASES[:2], CASES[0]]) == {"every case is answered once"}
    assert failed(top1=figure(0.6, 3, "mean over batches")) == {"top1 x n is a whole number"}
    assert failed(cut=1) == {"no prompt was cut"}


def test_another_label_or_prompt_gives_another_hash():
    first = integrity(CASES, ["a", "b", "c"], 0, proportion(2, 3), "d")
    relabeled = [*CASES[:2], Case(id="case 2", kind="diagnosis", group="1", text="fever", label="cold")]
    assert integrity(relabeled, ["a", "b", "c"], 0, proportion(2, 3), "d")["items"] != first["items"]
    assert integrity(CASES, ["a", "b", "x"], 0, proportion(2, 3), "d")["prompts"] != first["prompts"]


def test_ids_that_occur_twice_are_refused():
    with pytest.raises(UserError, match="1 case ids occur more than once: case 0"):
        check_ids([*CASES, CASES[0]], "dev.jsonl")


def test_the_last_bits_of_a_sum_are_not_told():
    assert rounded({"a": [0.1 + 0.2, 3], "b": (True, None)}) == {"a": [0.3, 3], "b": [True, None]}
