"""Clean: one Unicode form, no mojibake, nothing invisible; what cannot be used is dropped by name of the rule."""

from __future__ import annotations

import dataclasses
import unicodedata
from collections.abc import Callable
from pathlib import Path

import pytest

from distmed.cases.case import Case
from distmed.prepare.clean import MAX_CHARS, clean, cleaned
from tests.prepare.conftest import PrepareDoor, note

CASE = Case(id="c", kind="diagnosis", group="g", text="fever")


@pytest.mark.parametrize(
    ("dirty", "tidy"),
    [
        ("SjÃ¶gren syndrome", "Sjögren syndrome"),
        ("the patientâ€™s fever", "the patient's fever"),
        (unicodedata.normalize("NFD", "Ménière"), unicodedata.normalize("NFC", "Ménière")),
        ("pain\x00 and\x07 fever\x1b[31m", "pain and fever"),
        ("BP 120/80\u200b\ufeff\u00ad", "BP 120/80"),
        ("a\r\nb\rc", "a\nb\nc"),
        ("one  \ntwo\t\n", "one\ntwo"),
        ("T 38 °C, µg, β-blocker, α1, ≥ 3, 5′", "T 38 °C, µg, β-blocker, α1, ≥ 3, 5′"),
    ],
)
def test_text_is_mended_and_medical_signs_stay(dirty: str, tidy: str) -> None:
    assert cleaned(dirty) == tidy
    assert cleaned(tidy) == tidy


@pytest.mark.parametrize(
    ("change", "rule"),
    [
        ({"text": " \u200b \n"}, "empty text"),
        ({"text": "…---"}, "empty text"),
        ({"text": "x" * (MAX_CHARS + 1)}, "text too long"),
        ({"text": "\ufffd\ufffd\ufffd fever"}, "unreadable text"),
        ({"messages": (("user", "why?"), ("assistant", " "))}, "no answer"),
    ],
)
def test_what_cannot_be_used_is_dropped_by_rule(change: dict, rule: str) -> None:
    assert clean(dataclasses.replace(CASE, **change)) == rule


def test_every_text_of_a_case_is_cleaned_and_nothing_else() -> None:
    bad = "Ã¶"
    case = dataclasses.replace(
        CASE,
        findings=("SjÃ¶gren", " "),
        excluded=("cafÃ©",),
        options=(bad,),
        label=bad,
        messages=(("user", bad), ("assistant", bad)),
    )
    done = clean(case)
    assert isinstance(done, Case)
    assert (done.findings, done.excluded, done.options) == (("Sjögren",), ("café",), ("ö",))
    assert done.messages == (("user", "ö"), ("assistant", "ö"))
    assert (done.id, done.label) == ("c", "Ã¶")


def test_a_case_of_findings_needs_no_text() -> None:
    assert isinstance(clean(dataclasses.replace(CASE, text="", findings=("fever",))), Case)


def test_turned_off_it_changes_nothing(prepare: PrepareDoor, table: Callable[..., Path], tmp_path: Path) -> None:
    rows = [{"text": "SjÃ¶gren " + note(1), "label": "D"}]
    on = prepare(table(rows), "--no-deidentify", out=tmp_path / "on").cases()
    off = prepare(table(rows), "--no-deidentify", "--no-clean", out=tmp_path / "off").cases()
    assert (on[0].text[:7], off[0].text[:8]) == ("Sjögren", "SjÃ¶gren")
