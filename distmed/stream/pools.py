"""Who counts: this process, several processes of a desk, or Ray tasks all over a cluster; and the order is the same.

A function and its arguments flow in, results flow out in the order of the arguments, a bounded number under way at a time.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from typing import Any, Protocol, TypeVar

from distmed.errors import UserError
from distmed.processes import fresh_processes

T = TypeVar("T")
R = TypeVar("R")

AHEAD = 4
"""Results under way for each worker: enough that none waits, few enough that memory stays bounded."""


class Pool(Protocol):
    """Runs `work(shared, item)` for many items; `shared` was sent to the workers once."""

    workers: int

    def map(self, work: Callable[[Any, T], R], items: Iterable[T]) -> Iterator[R]: ...


class Here:
    """No other process: for little work."""

    workers = 1

    def __init__(self, shared: Any) -> None:
        self._shared = shared

    def map(self, work: Callable[[Any, T], R], items: Iterable[T]) -> Iterator[R]:
        return (work(self._shared, item) for item in items)


class _Elsewhere:
    def __init__(self, workers: int, submit: Callable[..., Any], result: Callable[[Any], Any]) -> None:
        self.workers = workers
        self._submit = submit
        self._result = result

    def map(self, work: Callable[[Any, T], R], items: Iterable[T]) -> Iterator[R]:
        under_way: deque[Any] = deque()
        for item in items:
            under_way.append(self._submit(work, item))
            if len(under_way) > AHEAD * self.workers:
                yield self._result(under_way.popleft())
        while under_way:
            yield self._result(under_way.popleft())


@contextmanager
def pool(shared: Any, workers: int) -> Iterator[Pool]:
    """Ray tasks where this process belongs to a cluster of several hosts, else up to `workers` processes of this one.

    Raises UserError if one of the processes is killed; what was finished before is kept by who writes it.
    """
    cluster_cpus = _cluster_cpus()
    if workers > 1 and cluster_cpus:
        yield _ray_tasks(shared, cluster_cpus)
    elif workers > 1:
        with fresh_processes(workers, _start_process, shared) as executor:
            try:
                yield _Elsewhere(
                    workers, lambda work, item: executor.submit(_in_process, work, item), lambda future: future.result()
                )
            except BrokenProcessPool as error:
                raise UserError(
                    "a process that counts tokens was killed, perhaps for memory",
                    "make room, then start again: it goes on where it was",
                ) from error
    else:
        yield Here(shared)


def _cluster_cpus() -> int:
    """CPUs of the Ray cluster this process belongs to; 0 where that is no more than this host."""
    import sys

    ray = sys.modules.get("ray")
    if ray is None or not ray.is_initialized() or len([node for node in ray.nodes() if node["Alive"]]) < 2:
        return 0
    return max(1, int(ray.cluster_resources().get("CPU", 0)))


def _ray_tasks(shared: Any, workers: int) -> Pool:
    import ray

    reference = ray.put(shared)
    # A lost host costs its tasks a second run, nothing else: they are functions of files.
    task: Any = ray.remote(num_cpus=1, max_retries=3)(_in_task)
    return _Elsewhere(workers, lambda work, item: task.remote(reference, work, item), ray.get)


def _in_task(shared: Any, work: Callable[[Any, T], R], item: T) -> R:
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    return work(shared, item)


_shared: Any  # of this process


def _start_process(shared: Any) -> None:
    global _shared
    _shared = shared
    os.environ["TOKENIZERS_PARALLELISM"] = "false"


def _in_process(work: Callable[[Any, T], R], item: T) -> R:
    return work(_shared, item)
