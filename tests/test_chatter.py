"""What a run says, to a terminal that may be closed."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from distmed.chatter import Chatter, screen


def test_a_terminal_that_is_closed_takes_what_is_written_without_an_error() -> None:
    """Before the signal that says so has come: a run would end by it, and not save."""
    keyboard, descriptor = os.openpty()
    terminal = screen(descriptor)
    terminal.write("step 1\n")
    assert os.read(keyboard, 100) == b"step 1\r\n"
    assert terminal.isatty()
    os.close(keyboard)
    terminal.write("step 2\n")
    terminal.close()


def test_a_file_gets_each_line_at_once(tmp_path: Path) -> None:
    said = screen(os.open(tmp_path / "said", os.O_WRONLY | os.O_CREAT))
    said.write("äther\n")
    assert (tmp_path / "said").read_text(encoding="utf-8") == "äther\n"
    said.close()


@pytest.mark.parametrize("show", [False, True])
def test_a_hang_up_after_the_end_is_no_error(tmp_path: Path, show: bool) -> None:
    """Signals are heeded for a moment longer."""
    with Chatter(tmp_path / "log.txt", show=show) as chatter:
        pass
    chatter.hang_up()
