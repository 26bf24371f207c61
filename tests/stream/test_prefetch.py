from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from distmed.recipe import Recipe
from distmed.stream.batch import Step
from distmed.stream.prefetch import prefetched
from distmed.stream.stream import Stream


def threads() -> int:
    return sum(thread.name == "stream-prefetch" for thread in threading.enumerate())


def test_items_come_in_order_and_a_few_ahead() -> None:
    made: list[int] = []

    def items() -> Iterator[int]:
        for number in range(50):
            made.append(number)
            yield number

    ahead = prefetched(items(), depth=2)
    assert next(ahead) == 0
    deadline = time.monotonic() + 5
    while len(made) < 4 and time.monotonic() < deadline:
        time.sleep(0.01)
    time.sleep(0.05)
    assert made == [0, 1, 2, 3]  # one taken, two ready, one that waits for room
    assert list(ahead) == list(range(1, 50))
    assert threads() == 0


def test_closing_stops_an_endless_source() -> None:
    ahead = prefetched(itertools.count())
    assert [next(ahead) for _ in range(3)] == [0, 1, 2]
    ahead.close()
    assert threads() == 0
    assert list(ahead) == []


def test_an_error_comes_after_the_items_before_it() -> None:
    def broken() -> Iterator[int]:
        yield 1
        raise ValueError("no more")

    ahead = prefetched(broken())
    assert next(ahead) == 1
    with pytest.raises(ValueError, match="no more"):
        next(ahead)
    assert threads() == 0


@pytest.mark.usefixtures("small_windows")
def test_an_error_while_prefetching_reaches_the_loop(
    recipe: Callable[..., Recipe], stream_of: Callable[..., Stream], monkeypatch: pytest.MonkeyPatch
) -> None:
    stream = stream_of(recipe())
    made = stream._step

    def broken(k: int) -> Step:
        if k >= 24:
            raise OSError("the disk is gone")
        return made(k)

    monkeypatch.setattr(stream, "_step", broken)
    steps = stream.steps(0)
    assert [next(steps).k for _ in range(3)] == [0, 8, 16]
    with pytest.raises(OSError, match="the disk is gone"):
        next(steps)
    assert threads() == 0


@pytest.mark.usefixtures("small_windows")
def test_closing_ends_the_thread(recipe: Callable[..., Recipe], stream_of: Callable[..., Stream]) -> None:
    stream = stream_of(recipe())
    steps = stream.steps(0)
    next(steps)
    assert threads() == 1
    stream.close()
    assert threads() == 0
    stream.steps(0)  # never started
    stream.close()
    assert len(list(stream.steps(0))) > 10
    assert threads() == 0
