"""No text makes a pattern take a time that is quadratic in its length, and one that is not sought to the end is an error."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest

from distmed.prepare import names, presidio
from distmed.prepare.deidentify import Deidentifier
from tests.prepare.conftest import PrepareDoor, public

GAP = " " * 3900


@pytest.mark.parametrize(
    "text",
    [
        "A. B. C. " * 440,
        f"Name{GAP}",
        f"MRN{GAP}",
        f"Account number{GAP}",
        "O'" * 2000,
        "Ab-" * 1300,
        "seen 4/5" + ", 4/5" * 900,
    ],
    ids=["initials", "name", "MRN", "account", "apostrophes", "hyphens", "dates"],
)
def test_a_block_takes_seconds_at_most(deidentifier: Deidentifier, text: str) -> None:
    started = time.process_time()
    public(deidentifier, text)
    assert time.process_time() - started < 5


@pytest.mark.parametrize("module", [presidio, names])
def test_a_pattern_that_is_not_sought_to_the_end_is_an_error(
    deidentifier: Deidentifier,
    prepare: PrepareDoor,
    table: Callable[..., Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    module: object,
) -> None:
    monkeypatch.setattr(module, "TIMEOUT_S", 1e-9)
    said = prepare.refuse(table([{"text": "cough since May " * 1000, "label": "D"}]), out=tmp_path / "out")
    assert "notes.jsonl:1 could not be searched for identifiers" in said.message and "cough" not in said.message
