"""The checks of benchmarks/stream.py that are about exactness and size; each returns figures and says whether it holds.

They use what a user's run uses: a plan and a Stream for every worker.
"""

from __future__ import annotations

import hashlib
import json
import os
import pickle
import random
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import replace
from itertools import islice
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import stream_data

if TYPE_CHECKING:
    from distmed.stream.batch import Step
    from distmed.stream.plan import StreamPlan

Figures = dict[str, Any]
PAD: Any = SimpleNamespace(pad_token_id=0)
"""All that a stream with kept ids needs of a tokenizer."""


def exactly_once(work: Path, name: str) -> Figures:
    """Every case once an epoch on 1 to 8 workers, and the same global batches on all."""
    plan = stream_data.plan(work, name, data={"token_cache": "ids"})
    cases = sum(manifest.rows for manifest in plan.manifests)
    wrong, orders, starved = [], set(), 0
    for world_size in range(1, 9):
        seen: Counter[int] = Counter()
        order = hashlib.sha256()
        for steps in _lockstep(plan, world_size, 0):
            rows = [row for step in steps for row in _rows(step)]
            seen.update(number for numbers, _ in rows for number in numbers)
            order.update(b"".join(sorted(content for _, content in rows)))
            starved += len({len(step.micro_batches) for step in steps}) != 1
        if seen != Counter(range(cases)):
            wrong.append(world_size)
        orders.add(order.hexdigest())
    return {
        "holds": not wrong and len(orders) == 1 and not starved,
        "said": f"{cases:,} cases, {len(plan.manifests)} sources: once each on 1–8 workers; {len(orders)} order",
    }


def resumes(work: Path, name: str, places: int = 20, following: int = 1000) -> Figures:
    """Stops at random places of two epochs, and goes on twice; the steps are compared by all their bytes."""
    plan = stream_data.plan(
        work, name, data={"token_cache": "ids"}, train={"epochs": 2, "global_batch": 4, "micro_batch": 2}
    )
    straight = [_digest(step) for step in _stream(plan).steps(0, prefetch=False)]
    following = min(following, len(straight) // 2)
    wrong, compared, second = 0, 0, 0
    for place in sorted(random.Random(1).sample(range(len(straight) - following), places)):
        half = place + following // 2
        for first, last in ((place, half), (half, place + following)):
            stream = _stream(plan)
            state = json.loads(json.dumps(stream.state(4 * first)))
            stream.check(state)
            found = [_digest(step) for step in islice(stream.steps(state["k"]), last - first)]
            stream.close()
            wrong += found != straight[first:last]
            compared += len(found)
        second += 4 * place >= plan.sequences_per_epoch(0)
    return {
        "holds": not wrong,
        "said": f"{places} places ({second} in the second epoch) of {len(straight):,} batches, resumed twice with prefetch: "
        f"{compared:,} batches, {wrong} differ; state {len(json.dumps(_stream(plan).state(10**12)))} bytes",
    }


def elastic(work: Path, name: str) -> Figures:
    """Stops on 4 workers, goes on with others."""
    plan = stream_data.plan(work, name, weighted=True, data={"token_cache": "ids"}, train={"max_steps": 120})
    straight = [_global(steps) for steps in _lockstep(plan, 4, 0)]
    wrong = []
    for world_size in (2, 8, 3, 5, 1):
        k = 64 * random.Random(world_size).randrange(10, 60)
        if [_global(steps) for steps in _lockstep(plan, world_size, k)] != straight[k // 64 :]:
            wrong.append(world_size)
    return {"holds": not wrong, "said": f"a weighted mixture, 4 -> 2, 8, 3, 5, 1 workers: {wrong or 'none'} differ"}


def scale() -> Figures:
    """Time and memory of a worker's first batch among 10^4 to 10^9 simulated cases."""
    sys.path.insert(0, str(Path(__file__).parents[1]))
    from tests.stream.simulated import simulate
    from tests.stream.test_scale import first_batch

    said, largest, seconds = [], 0, []
    with tempfile.TemporaryDirectory(prefix="stream-scale-") as folder:
        for groups in (10, 1000, 1_000_000):
            recipe = stream_data.recipe("generated")
            plan = simulate(Path(folder) / str(groups), groups, recipe, {})
            for part in (0.1, 0.9):
                taken = first_batch(plan, int(part * plan.total_sequences), Path(folder), "timed")
                largest = max(largest, taken["anonymous_kib"])
                seconds.append(taken["seconds"])
                said.append(f"{groups * 1000:.0e} at {part:.0%}: {taken['seconds']:.2f} s")
    return {
        "holds": largest < 2**20 and seconds[-1] < seconds[0] + 3,
        "said": f"{', '.join(said)}; anonymous memory at most {largest / 2**10:.0f} MiB with the libraries",
    }


def row_groups_read(work: Path, name: str) -> Figures:
    """How often row groups are read where ids are not kept: those of the data set, and of a simulated one of a million rows."""
    sys.path.insert(0, str(Path(__file__).parents[1]))
    from tests.stream.simulated import fill as fill_in
    from tests.stream.simulated import simulate

    said, worst = [], 0.0
    with tempfile.TemporaryDirectory(prefix="stream-reads-") as folder:
        large = simulate(Path(folder), 1000, stream_data.recipe(name), {})
        fill_in(large, 0, large.total_sequences)
        for plan in (stream_data.plan(work, name, data={"token_cache": "counts"}), replace(large, ids_kept=False)):
            groups = sum(len(manifest.row_groups) for manifest in plan.manifests)
            times = {world_size: _reads(plan, world_size) / groups for world_size in (2, 3, 5, 8, 12, 16)}
            worst = max([worst, *times.values()])
            said.append(f"{groups:,} row groups: " + ", ".join(f"{n}: {reads:.2f}" for n, reads in times.items()))
    return {"holds": worst <= 1.35, "said": f"times read by so many workers, {'; '.join(said)}"}


def _reads(plan: StreamPlan, world_size: int) -> int:
    """Row groups that all workers together read in an epoch."""
    reads = 0
    for rank in range(world_size):
        stream = _stream(plan, rank, world_size)
        assert stream.reader is not None
        stream.reader.tokens = _only_reads(stream.reader, plan)  # type: ignore[method-assign]
        for _ in stream.steps(0, prefetch=False):
            pass
        reads += stream.reader.reads
    return reads


def _only_reads(reader: Any, plan: StreamPlan) -> Any:
    """In place of ids: the row groups are asked for, but neither decoded nor tokenised."""
    import numpy as np

    from distmed.stream import reading

    reader._rows = SimpleNamespace(read=lambda *_, columns: None)
    reading.AskedRows = lambda _: None  # type: ignore[assignment,misc]

    def tokens(cases_N: Any, epoch: int) -> tuple[Any, Any]:
        for group in np.unique(np.searchsorted(reader._starts_G, cases_N, side="right") - 1).tolist():
            reader._rows_of(group)
        size_C = reader._table.counts(cases_N, epoch)
        return np.zeros(int(size_C.sum()), dtype=np.int32), size_C

    return tokens


def steady(work: Path, name: str, rows: int = 1_000_000) -> Figures:
    """Anonymous memory of a worker while a million cases pass, from kept ids and tokenised as they come."""
    found = sum(manifest.rows for manifest in stream_data.manifests(work, name))
    said, holds = [], True
    for keep in ("ids", "counts"):
        plan = stream_data.plan(work, name, data={"token_cache": keep}, train={"epochs": -(-rows // found)})
        memory, cases = [], 0
        for step in _stream(plan, tokenizer=stream_data.tokenizer(work)).steps(0):
            cases += step.cases
            memory.append((cases, _anonymous_mib()))
        early = max(mib for at, mib in memory if at <= cases / 5)
        late = max(mib for at, mib in memory if at > cases / 5)
        holds &= late - early < 0.05 * early + 8
        said.append(f"{keep} kept: at most {early:.0f} MiB in the first fifth, {late:.0f} MiB after it")
    return {"holds": holds, "said": f"{cases:,} cases, {'; '.join(said)}"}


def data_wait(work: Path, name: str, steps: int = 15, busy_s: float = 1.0) -> Figures:
    """What a loop waits for data, tokenised as it comes, if its step takes as little as a second of one core."""
    import torch

    plan = stream_data.plan(
        work, name, weighted=True, data={"token_cache": "counts"}, train={"global_batch": 8, "micro_batch": 8}
    )
    stream = _stream(plan, tokenizer=stream_data.tokenizer(work))
    a = torch.randn(512, 512)
    arriving = stream.steps(0)
    next(arriving)
    waited, started, tokens = 0.0, time.perf_counter(), 0
    for _ in range(steps):
        busy = time.perf_counter()
        while time.perf_counter() - busy < busy_s:
            a @ a
        asked = time.perf_counter()
        tokens += next(arriving).tokens
        waited += time.perf_counter() - asked
    share = waited / (time.perf_counter() - started)
    stream.close()
    return {"holds": share < 0.01, "said": f"{share:.2%} of steps of {busy_s:.0f} s, {tokens / steps:,.0f} tokens each"}


def fill(work: Path, name: str) -> Figures:
    """How full the sequences of an epoch are."""
    plan = stream_data.plan(work, name, data={"token_cache": "counts"})
    return {
        "holds": plan.fill_rate > 0.95,
        "said": f"{plan.fill_rate:.4f} full: {plan.cases:,} cases, {plan.tokens / plan.cases:.0f} tokens each, in "
        f"{plan.total_sequences:,} sequences of {plan.seq_len}; {plan.cut:,} cut",
    }


def _stream(plan: StreamPlan, rank: int = 0, world_size: int = 1, tokenizer: Any = PAD) -> Any:
    from distmed.stream.stream import Stream

    if not plan.ids_kept and tokenizer is PAD:
        tokenizer = SimpleNamespace(pad_token_id=0, is_fast=True)
    return Stream(plan, tokenizer, rank, world_size)


def _lockstep(plan: StreamPlan, world_size: int, k: int) -> Iterator[tuple[Step, ...]]:
    streams = [_stream(plan, rank, world_size).steps(k, prefetch=False) for rank in range(world_size)]
    return zip(*streams, strict=True)


def _rows(step: Step) -> Iterator[tuple[list[int], bytes]]:
    """(case numbers, tokens) of each sequence of a worker's share."""
    for batch in step.micro_batches:
        if batch.masked:
            continue
        at = 0
        for ids, segments in zip(batch.input_ids_BL, batch.segment_ids_BL, strict=True):
            cases = int(segments.max())
            yield batch.case_number_C[at : at + cases].tolist(), ids[segments > 0].numpy().tobytes()
            at += cases


def _global(steps: Iterable[Step]) -> list[bytes]:
    return sorted(hashlib.sha256(content).digest() for step in steps for _, content in _rows(step))


def _digest(step: Step) -> bytes:
    import torch

    digest = hashlib.sha256(repr((step.k, step.next_k, step.denominator, step.tokens, step.epoch)).encode())
    for batch in step.micro_batches:
        for value in vars(batch).values():
            digest.update(value.numpy().tobytes() if isinstance(value, torch.Tensor) else pickle.dumps(value))
    return digest.digest()


def _anonymous_mib() -> float:
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(status["RssAnon"].split()[0]) / 2**10


def in_own_process(check: str, *arguments: str) -> Figures:
    """Run one check where nothing else has left its memory or its caches."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}
    command = [sys.executable, __file__, check, *arguments]
    result = subprocess.run(command, stdout=subprocess.PIPE, text=True, env=environment, check=True)
    return dict(json.loads(result.stdout.splitlines()[-1]))


if __name__ == "__main__":
    found = globals()[sys.argv[1]](*([Path(sys.argv[2]), sys.argv[3]] if len(sys.argv) > 2 else []))
    print(json.dumps(found))
