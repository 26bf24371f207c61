"""Work in a thread of its own, so that the main one is free for signals meanwhile."""

from __future__ import annotations

import threading
from collections.abc import Callable


class Background:
    """`work`, from now on. `error`: the Exception that it ended with.

    `Thread.join` is not asked whether it has ended: in Python 3.11 one that a signal's KeyboardInterrupt cuts short marks the
    thread as ended, which goes on.
    """

    def __init__(self, name: str, work: Callable[[], object]) -> None:
        self.error: Exception | None = None
        self._work = work
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def is_alive(self) -> bool:
        return not self._ended.is_set()

    def wait(self, seconds: float) -> None:
        """Until it ends, for `seconds` at most."""
        if self._ended.wait(seconds):
            self._thread.join()

    def _run(self) -> None:
        try:
            self._work()
        except Exception as error:
            self.error = error
        finally:
            self._ended.set()
