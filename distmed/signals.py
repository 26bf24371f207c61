"""What signals mean to a run: INT, TERM, USR1 and HUP ask the workers to finish their step and save; INT once more ends at
once.

Before there are workers, and after them, each of them ends the run. All but INT may come twice without harm, because a
scheduler and its script may both send one. HUP comes when a terminal is closed; `nohup` ignores it, and the run goes on.
"""

from __future__ import annotations

import signal
from collections.abc import Callable
from types import FrameType, TracebackType

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGHUP)


class StopSignals:
    """While the block lasts; `asked` says whether one came. `hang_up` is called when there is no terminal any more."""

    def __init__(self) -> None:
        self.asked = False
        self.hang_up: Callable[[], None] = lambda: None
        self._ask: Callable[[], None] | None = None
        self._ended = False

    def __enter__(self) -> StopSignals:
        self._before = {number: signal.getsignal(number) for number in SIGNALS}
        if self._before[signal.SIGHUP] == signal.SIG_IGN:
            del self._before[signal.SIGHUP]
        self.take()
        return self

    def take(self) -> None:
        """Once more after Ray was joined, which takes TERM for itself: it would abort the driver before anything is saved."""
        for number in self._before:
            signal.signal(number, self._handle)

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def call(self, ask: Callable[[], None] | None) -> None:
        """From now on a signal calls `ask`, once; None: it ends the run."""
        self._ask = ask

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if number == signal.SIGHUP:
            self.hang_up()
        if self._ask is None or (self.asked and number == signal.SIGINT):
            if self._ended and number != signal.SIGINT:
                return  # what the first one began, such as taking the lock away, goes on
            self._ended = True
            raise KeyboardInterrupt
        if not self.asked:
            self.asked = True
            self._ask()
