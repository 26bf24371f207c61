"""What a person sees while `prepare` works, on terminals of all kinds and in a log."""

from __future__ import annotations

import io
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from distmed.cli import main
from tests.prepare.conftest import rows_of
from tests.prepare.conftest import table as table

Table = Callable[..., Path]
PHASES = ["reading the sources", "taking the checksums of the sources", "comparing the cases"]


class Screen(io.StringIO):
    def isatty(self) -> bool:
        return True


def seen(monkeypatch: pytest.MonkeyPatch, screen: io.StringIO, source: Path, out: Path) -> str:
    """All that `distmed prepare` writes there."""
    with monkeypatch.context() as patch, pytest.raises(SystemExit) as ended:
        patch.setattr(sys, "stdout", screen)
        main(["prepare", str(source), "--out", str(out), "--no-deidentify", "--num-workers", "1"])
    assert not ended.value.code
    return screen.getvalue()


@pytest.mark.parametrize(("screen", "setting"), [(Screen(), ("TERM", "dumb")), (io.StringIO(), ("FORCE_COLOR", "1"))])
def test_what_cannot_be_redrawn_gets_a_line_a_phase(
    monkeypatch: pytest.MonkeyPatch, table: Table, tmp_path: Path, screen: io.StringIO, setting: tuple[str, str]
) -> None:
    """A dumb terminal, and the log of a job that asks for colors."""
    monkeypatch.setenv(*setting)
    out = tmp_path / "out"
    lines = seen(monkeypatch, screen, table(rows_of(12)), out).splitlines()
    assert lines[:4] == [*PHASES, f"writing {out}"]


def test_a_folder_of_any_name_is_shown_as_it_is(monkeypatch: pytest.MonkeyPatch, table: Table, tmp_path: Path) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "300")
    out = tmp_path / "{1}[red]:bug:"
    assert f"writing {out}" in seen(monkeypatch, Screen(), table(rows_of(12)), out)
