"""The probe of a run holds cases of patients."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

from distmed.rundir import RunDir
from distmed.train.logbook import Logbook


def test_the_probe_is_for_its_owner_alone(tmp_path: Path) -> None:
    run = RunDir(tmp_path)
    book: Any = SimpleNamespace(run=run)
    for content in (b"first", b"better"):
        Logbook.keep_probe(book, content)
    assert run.probe.read_bytes() == b"better"
    assert run.probe.stat().st_mode & 0o777 == 0o600
    assert run.probe.parent.stat().st_mode & 0o777 == 0o700
