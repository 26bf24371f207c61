"""Ray, DeepSpeed and the workers print a great deal: while a run lasts, all of it goes to the log file of the run."""

from __future__ import annotations

import errno
import io
import os
import sys
from pathlib import Path
from types import TracebackType
from typing import Any, TextIO


class _Screen(io.FileIO):
    """A terminal may be closed at any time, and is before the signal comes that says so: what is written then goes nowhere."""

    def write(self, data: Any, /) -> int:
        try:
            return super().write(data)
        except OSError as error:
            if error.errno != errno.EIO:
                raise
            return len(data)


def screen(descriptor: int) -> TextIO:
    """Lines for whoever looks at that file, which may go away."""
    return io.TextIOWrapper(io.BufferedWriter(_Screen(descriptor, "w")), encoding="utf-8", line_buffering=True)


class Chatter:
    """Sends file descriptors 1 and 2 to a log file; `terminal` still writes to where standard output went before.

    Descriptors and not `sys.stdout`, because child processes and native code write to them directly.
    """

    def __init__(self, log: Path, *, show: bool) -> None:
        self.log = log
        self.show = show
        self.terminal: TextIO = sys.stdout

    def __enter__(self) -> Chatter:
        sys.stdout.flush()
        sys.stderr.flush()
        self.terminal = screen(os.dup(1))
        if self.show:
            return self
        self._saved = [os.dup(1), os.dup(2)]
        log = os.open(self.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        os.dup2(log, 1)
        os.dup2(log, 2)
        os.close(log)
        return self

    def hang_up(self) -> None:
        """The terminal is closed: what would be written to it goes nowhere, since to write there is an error."""
        if self.terminal.closed:
            return
        nowhere = os.open(os.devnull, os.O_WRONLY)
        for target in (self.terminal.fileno(), *((1, 2) if self.show else self._saved)):
            os.dup2(nowhere, target)
        os.close(nowhere)

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.terminal.close()
        if self.show:
            return
        sys.stdout.flush()
        sys.stderr.flush()
        for target, saved in zip((1, 2), self._saved, strict=True):
            os.dup2(saved, target)
            os.close(saved)
