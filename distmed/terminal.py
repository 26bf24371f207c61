"""Terminal: what a person is shown, by lines, and a line or a table that is redrawn where that can be done."""

from __future__ import annotations

from typing import TextIO

from rich.console import Console
from rich.text import Text


class Terminal:
    """Writes to `stream`; `live` says whether that can redraw (None: if it is a terminal, and not a dumb one)."""

    def __init__(self, stream: TextIO, *, live: bool | None = None) -> None:
        self._console = Console(file=stream, force_terminal=stream.isatty() if live is None else live)
        self._redraws = self._console.is_terminal and not self._console.is_dumb_terminal

    def line(self, text: str) -> None:
        """The text as it is: no part of it is taken for markup."""
        self._console.print(Text(text), soft_wrap=True)

    def note(self, text: str) -> None:
        """Something that a person should know, a restart for one."""
        self.line(f"note: {text}")
