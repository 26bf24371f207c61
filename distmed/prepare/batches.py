"""The first half of the work: sources are read once, in order, and batches pass the stages in parallel into parts.

Cases flow in, part files flow out, numbered by their place in the sources: a batch is cut by the data alone, so its part
is the same whoever makes it, and one that is there already is not made again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from concurrent.futures.process import BrokenProcessPool
from contextlib import ExitStack
from pathlib import Path

from distmed.cases.case import Case
from distmed.errors import UserError
from distmed.prepare.parts import Parts, write_part
from distmed.prepare.read import Placed
from distmed.prepare.settings import Settings
from distmed.prepare.stages import Stages
from distmed.processes import fresh_processes

BATCH_ROWS = 1000
BATCH_CHARS = 4 << 20
"""A batch ends at so many cases or characters: this bounds the memory of a process."""


def make_parts(
    cases: Iterable[Placed],
    parts: Parts,
    settings: Settings,
    evaluation: Path | None,
    processes: int,
    advanced: Callable[[int], None],
) -> int:
    """How many parts there are. `advanced` hears of every batch that is done, by its number of cases.

    Raises UserError for what is wrong with a row, a full disk, or a process that was killed.
    """
    with ExitStack() as stack:
        run: Callable[[Path, list[Placed]], Future[None] | None] | None = None
        waiting: list[tuple[Future[None], int]] = []
        count = 0

        def settle(most: int) -> None:
            while len(waiting) > most:
                future, rows = waiting.pop(0)
                future.result()
                advanced(rows)

        try:
            for batch in _batches(cases):
                path = parts.path(count)
                count += 1
                if path.is_file():
                    advanced(len(batch))
                    continue
                if run is None:
                    # One batch that is not full is not worth a process.
                    alone = processes == 1 or (len(batch) < BATCH_ROWS and _chars(batch) < BATCH_CHARS)
                    run = _here(settings, evaluation) if alone else _pool(stack, processes, settings, evaluation)
                future = run(path, batch)
                if future is None:
                    advanced(len(batch))
                else:
                    waiting.append((future, len(batch)))
                    settle(2 * processes)
            settle(0)
        except BrokenProcessPool as error:
            raise UserError(
                "a process of `distmed prepare` was killed, perhaps for memory",
                "start the same command again, it continues; --num-workers lowers the memory it takes",
            ) from error
        except BaseException:
            for future, _ in waiting:
                future.cancel()
            raise
    return count


def _batches(cases: Iterable[Placed]) -> Iterator[list[Placed]]:
    batch: list[Placed] = []
    chars = 0
    for placed in cases:
        batch.append(placed)
        chars += _length(placed.case)
        if len(batch) == BATCH_ROWS or chars >= BATCH_CHARS:
            yield batch
            batch, chars = [], 0
    if batch:
        yield batch


def _length(case: Case) -> int:
    return len(case.text) + sum(len(content) for _, content in case.messages)


def _chars(batch: list[Placed]) -> int:
    return sum(_length(placed.case) for placed in batch)


def _here(settings: Settings, evaluation: Path | None) -> Callable[[Path, list[Placed]], None]:
    stages = Stages(settings, evaluation)
    return lambda path, batch: _work(stages, path, batch)


def _pool(
    stack: ExitStack, processes: int, settings: Settings, evaluation: Path | None
) -> Callable[[Path, list[Placed]], Future[None]]:
    pool = stack.enter_context(fresh_processes(processes, _start_process, settings, evaluation))
    return lambda path, batch: pool.submit(_in_process, path, batch)


def _work(stages: Stages, path: Path, batch: list[Placed]) -> None:
    made = stages(batch)
    write_part(path, made.rows, made.stats)


_stages: Stages  # of this process


def _start_process(settings: Settings, evaluation: Path | None) -> None:
    global _stages
    _stages = Stages(settings, evaluation)


def _in_process(path: Path, batch: list[Placed]) -> None:
    _work(_stages, path, batch)
