"""Work in the background while a signal may interrupt whoever waits for it."""

from __future__ import annotations

import os
import signal
import threading

import pytest

from distmed.background import Background
from distmed.signals import StopSignals


def test_an_interrupt_of_the_wait_does_not_end_the_work() -> None:
    """A driver that takes it for ended leaves Ray, which then ends the driver."""
    goes_on = threading.Event()
    with StopSignals():
        work = Background("work", goes_on.wait)
        threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGINT)).start()
        with pytest.raises(KeyboardInterrupt):
            work.wait(60)
    assert work.is_alive()
    goes_on.set()
    work.wait(60)
    assert not work.is_alive() and "work" not in {thread.name for thread in threading.enumerate()}


def test_what_the_work_raised_is_kept() -> None:
    work = Background("work", lambda: 1 // 0)
    work.wait(60)
    assert isinstance(work.error, ZeroDivisionError)
