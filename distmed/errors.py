"""What the user can mend, how it is told, and the statuses that a process ends with.

Everything else that is raised is a bug, and shows its traceback.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

DONE, FAILED, MENDABLE, INTERRUPTED = 0, 1, 2, 130


class UserError(Exception):
    """A mistake in the input: one line that says what is wrong, one that says how to mend it.

    The command line prints both and exits with status 2.
    """

    def __init__(self, message: str, hint: str) -> None:
        super().__init__(message, hint)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message}\n{self.hint}"


def one_of(items: list[str], limit: int = 12) -> str:
    """`a, b, c and 9 more`: a list short enough for one line of an error."""
    shown = ", ".join(items[:limit])
    return shown if len(items) <= limit else f"{shown} and {len(items) - limit} more"


def first_line(error: BaseException) -> str:
    """Of what the error says, or its kind where it says nothing."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def last_line(error: BaseException | None, otherwise: str) -> str:
    """Ray's errors carry the worker's traceback, whose end says what happened. `otherwise`: where the error says nothing."""
    lines = str(error or "").strip().splitlines()
    return lines[-1] if lines else otherwise


def told(error: UserError, what: str = "error") -> str:
    """Its two lines, as a person reads them."""
    return f"{what}: {error.message}\n  fix: {error.hint}"


@contextmanager
def mistakes_told() -> Iterator[None]:
    """A UserError ends the process: its two lines, and status 2."""
    try:
        yield
    except UserError as error:
        print(told(error), file=sys.stderr)
        sys.exit(MENDABLE)
