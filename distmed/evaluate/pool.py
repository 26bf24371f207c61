"""The pool: scorers as Ray actors, to which units of cases are handed, and which are replaced where one dies.

Cases flow in; one table, in their order, flows out. Every unit that is done lies on the disk under a hash of what it is a
function of, so an evaluation that was killed goes on where it stopped, and another model or prompt finds nothing of it.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from distmed.cases.case import Case
from distmed.errors import UserError, first_line
from distmed.evaluate.loading import Loaded, Opened
from distmed.evaluate.memory import halved, too_large
from distmed.evaluate.progress import Progress

if TYPE_CHECKING:
    import pyarrow as pa

Mode = Literal["diagnosis", "choice", "letters"]
"""What is asked of a scorer: probabilities over diagnoses, everything about exam questions, or only their letters."""

VERSION = 1
UNIT = 256
IN_FLIGHT = 2
TRIES = 3
BUDGET = b"token_budget"


class Scorer:
    """One process with the model in memory. `shots`: training cases that a question may be preceded by."""

    def __init__(self, opened: Opened, threads: int, shots: list[Case]) -> None:
        self.opened = opened
        self.threads = threads
        self.shots = shots
        self.smaller = False

    @cached_property
    def model(self) -> Loaded:
        """Loaded with the first unit: what is wrong with it is then told by a task, not by an actor that dies."""
        import torch

        from distmed.evaluate.loading import load

        if not torch.cuda.is_available():
            torch.set_num_threads(self.threads)
        try:
            return load(self.opened)
        except torch.OutOfMemoryError as error:
            raise too_large(first_line(error)) from None

    @cached_property
    def questions(self) -> Any:
        from distmed.evaluate.choice import ChoiceScorer

        return ChoiceScorer(self.model, self.shots)

    def score(self, cases: list[Case], mode: Mode) -> pa.Table:
        """The unit's columns of predictions.parquet. If memory made batches smaller, its metadata says how small they are."""
        import torch

        while True:
            try:
                table = self._score(cases, mode)
            except torch.OutOfMemoryError as error:
                told = first_line(error)
            else:
                return table.replace_schema_metadata({BUDGET: str(self.model.token_budget)} if self.smaller else None)
            # Out here no traceback holds the tensors of the failed pass any more.
            self.model = halved(self.model, told)
            self.smaller = True
            vars(self).pop("questions", None)

    def _score(self, cases: list[Case], mode: Mode) -> pa.Table:
        import pyarrow as pa

        if mode == "choice":
            from distmed.evaluate.choice import COLUMNS

            rows = self.questions(cases)
            return pa.table({name: pa.array([row[name] for row in rows], COLUMNS.get(name)) for name in rows[0]})
        if mode == "letters":
            return pa.Table.from_pylist(self.questions.letters(cases))
        from distmed.evaluate.inference import score_cases

        scores = score_cases(self.model, cases)
        offsets = np.arange(len(cases) + 1, dtype=np.int32) * scores.probabilities_NK.shape[1]
        return pa.table(
            {
                "scores": pa.ListArray.from_arrays(pa.array(offsets), pa.array(scores.probabilities_NK.ravel())),
                "prompt_hash": scores.prompt_hashes,
                "tokens": pa.array(scores.tokens_N),
                "cut": pa.array(scores.cut_N),
            }
        )

    def latencies(self, cases: list[Case], mode: Mode) -> list[float]:
        """Seconds for each case alone, after one to warm up."""
        self.score(cases[:1], mode)
        seconds = []
        for case in cases:
            started = time.perf_counter()
            self.score([case], mode)
            seconds.append(time.perf_counter() - started)
        return seconds

    def facts(self) -> dict[str, Any]:
        """What is known of a model once it is loaded, and the largest memory it took."""
        import resource

        import torch

        network = self.model.diagnoser.network
        on_gpu = self.model.device.type == "cuda"
        return {
            "parameters": sum(parameter.numel() for parameter in network.parameters()),
            "dtype": str(network.dtype).removeprefix("torch."),
            "head": "untrained" if self.model.untrained_head else "trained",
            "choice": self.questions.about() if "questions" in vars(self) else None,
            "device": torch.cuda.get_device_name() if on_gpu else "cpu",
            "device_peak_gib": round(torch.cuda.max_memory_allocated() / 2**30, 3) if on_gpu else None,
            "host_peak_gib": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20, 3),
        }


@dataclass
class Speed:
    """What scoring took: only of units scored now, not of those found on the disk."""

    cases: int = 0
    tokens: int = 0
    seconds: float = 0.0
    latencies: list[float] = field(default_factory=list)


class Pool:
    """`workers` scorers of one model. A context manager: the actors end with it."""

    def __init__(
        self, opened: Opened, work: Path, *, workers: int, progress: Progress, shots: Sequence[Case] = ()
    ) -> None:
        self._opened = opened
        self._work = work
        self._progress = progress
        self._shots = list(shots)
        self._workers = workers
        self._actors: list[Any] = []
        self.speed = Speed()
        self._budget = sys.maxsize

    def __enter__(self) -> Pool:
        self._actors = [self._actor() for _ in range(self._workers)]
        return self

    def __exit__(self, *_: object) -> None:
        import ray

        for actor in self._actors:
            ray.kill(actor)

    def score(self, cases: Sequence[Case], doing: str, *, mode: Mode = "diagnosis") -> pa.Table:
        """The columns of N cases, in their order. Raises UserError for what a scorer found that the user can mend."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        self._work.mkdir(parents=True, exist_ok=True)
        units = [list(cases[at : at + UNIT]) for at in range(0, len(cases), UNIT)]
        paths = [self._work / f"{self._hash(unit, mode)}.parquet" for unit in units]
        missing = [n for n, path in enumerate(paths) if not path.is_file()]
        with self._progress.bar(doing, len(cases)) as bar:
            if len(missing) < len(units):
                bar.found(len(cases) - sum(len(units[n]) for n in missing))
            started = time.perf_counter()
            for n, table in self._run(units, missing, mode):
                self._tell(table)
                _write(table, paths[n])
                bar.advance(len(units[n]))
                self.speed.cases += len(units[n])
                if "tokens" in table.column_names:
                    self.speed.tokens += sum(table["tokens"].to_pylist())
            self.speed.seconds += time.perf_counter() - started if missing else 0.0
        return pa.concat_tables([pq.read_table(path) for path in paths])

    def _tell(self, table: pa.Table) -> None:
        """Once for each size that batches had to come down to."""
        budget = int((table.schema.metadata or {}).get(BUDGET, self._budget))
        if budget < self._budget:
            self._budget = budget
            self._progress.note(f"out of memory: from now on at most {budget} tokens are read at once")

    def facts(self) -> dict[str, Any]:
        import ray

        facts: dict[str, Any] = ray.get(self._actors[0].facts.remote())
        return facts

    def time_alone(self, cases: Sequence[Case], *, mode: Mode) -> None:
        """How long a case takes that comes alone."""
        import ray

        self.speed.latencies = ray.get(self._actors[0].latencies.remote(list(cases), mode))

    def _run(self, units: list[list[Case]], numbers: list[int], mode: Mode) -> Any:
        """Yield (number, table) of the units as they are done, whichever is first."""
        import ray
        from ray.exceptions import RayActorError, RayTaskError

        waiting = deque(numbers)
        tries = dict.fromkeys(numbers, 0)
        running: dict[Any, tuple[int, int]] = {}
        while waiting or running:
            for place in range(len(self._actors)):
                busy = sum(of == place for of, _ in running.values())
                while waiting and busy < IN_FLIGHT:
                    number = waiting.popleft()
                    running[self._actors[place].score.remote(units[number], mode)] = (place, number)
                    busy += 1
            (done,), _ = ray.wait(list(running), num_returns=1)
            place, number = running.pop(done)
            try:
                table = ray.get(done)
            except RayTaskError as error:
                if isinstance(error.cause, UserError):
                    raise error.cause from None
                raise
            except RayActorError:
                tries[number] += 1
                if tries[number] == TRIES:
                    raise RuntimeError(f"a scorer died {TRIES} times; its output lies in the log") from None
                self._progress.note("a scorer died: another one takes its place")
                lost = [ref for ref, (of, _) in running.items() if of == place]
                waiting.extendleft([number, *(running.pop(ref)[1] for ref in lost)])
                self._actors[place] = self._actor()
                continue
            yield number, table

    def _actor(self) -> Any:
        import ray

        from distmed.session import on_gpu

        cpus = int(ray.cluster_resources().get("CPU", 1))
        threads = max(1, cpus // self._workers) if len(ray.nodes()) == 1 and not on_gpu() else 1
        options = {"num_cpus": threads, "num_gpus": 1 if on_gpu() else 0}
        variables = {"TOKENIZERS_PARALLELISM": "false"}
        if not on_gpu():
            variables |= {"DS_ACCELERATOR": "cpu", "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", str(threads))}
        actor = ray.remote(Scorer).options(**options, runtime_env={"env_vars": variables})
        return actor.remote(self._opened, threads, self._shots)

    def _hash(self, cases: list[Case], mode: Mode) -> str:
        """Of everything that the unit's columns are a function of."""
        opened = self._opened
        spec = [
            VERSION,
            opened.hash,
            opened.labels,
            opened.label_names,
            opened.recipe.model_dump(mode="json", exclude={"model"}),
            mode,
            [shot.to_row() for shot in self._shots],
            [case.to_row() for case in cases],
        ]
        return hashlib.sha256(json.dumps(spec).encode()).hexdigest()[:24]


def _write(table: pa.Table, path: Path) -> None:
    import pyarrow.parquet as pq

    part = path.with_suffix(".partial")
    try:
        pq.write_table(table, part)
        part.replace(path)
    except OSError as error:
        raise UserError(f"cannot write {path.parent}: {error.strerror}", "make room there, then start again") from error
