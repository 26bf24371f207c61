"""Prefetch: the next few items are made in a background thread while the caller works on one.

An iterator flows in, the same items flow out. What the thread raises reaches the caller; closing the generator ends the thread.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Generator, Iterator
from typing import TypeVar

T = TypeVar("T")


class _Raised:
    def __init__(self, error: BaseException) -> None:
        self.error = error


_END = object()


def prefetched(items: Iterator[T], depth: int = 2) -> Generator[T, None, None]:
    """Yield `items`, of which `depth` are ready ahead. The thread starts with the first `next`."""
    ready: queue.Queue[object] = queue.Queue(maxsize=depth)
    closed = threading.Event()

    def fill() -> None:
        try:
            for item in items:
                ready.put(item)
                if closed.is_set():
                    return
            ready.put(_END)
        except BaseException as error:
            ready.put(_Raised(error))

    thread = threading.Thread(target=fill, name="stream-prefetch", daemon=True)
    thread.start()
    try:
        while (item := ready.get()) is not _END:
            if isinstance(item, _Raised):
                raise item.error
            yield item  # type: ignore[misc]
    finally:
        closed.set()
        # The thread may wait for room; the next thing that it does is to see that this is closed.
        while thread.is_alive():
            while not ready.empty():
                ready.get()
            thread.join(0.05)
