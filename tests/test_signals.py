"""Signals before there are workers: the first ends the run, and what it began comes to its end."""

from __future__ import annotations

import os
import signal
import time

import pytest

from distmed.signals import StopSignals


def test_a_second_signal_does_not_cut_short_what_the_first_began() -> None:
    """A scheduler and its script may both send one; a person who presses Ctrl-C once more means it."""
    with StopSignals():
        with pytest.raises(KeyboardInterrupt):
            send(signal.SIGTERM)
        send(signal.SIGUSR1)
        send(signal.SIGTERM)
        with pytest.raises(KeyboardInterrupt):
            send(signal.SIGINT)


def send(number: signal.Signals) -> None:
    os.kill(os.getpid(), number)
    time.sleep(0.05)
