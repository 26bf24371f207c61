"""A billion cases, simulated: what a worker needs to find its place among them."""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from distmed.recipe import Recipe
from distmed.stream.stream import Stream, StreamPlan
from tests.stream.simulated import fill, simulate

RecipeMaker = Callable[..., Recipe]

WORKER = """
import json, pickle, sys, time
from types import SimpleNamespace
from distmed.stream.stream import Stream
started = time.process_time()
with open(sys.argv[1], "rb") as file:
    plan = pickle.load(file)
stream = Stream(plan, SimpleNamespace(pad_token_id=0), 0, 8)
step = next(stream.steps(int(sys.argv[2]), prefetch=False))
seconds = time.process_time() - started
status = dict(line.split(":", 1) for line in open("/proc/self/status"))
print(json.dumps({"seconds": seconds, "anonymous_kib": int(status["RssAnon"].split()[0]), "cases": step.cases}))
"""


def first_batch(plan: StreamPlan, k: int, folder: Path) -> dict[str, Any]:
    """What a fresh worker takes for its first batch from position k on: seconds of the CPU, anonymous memory."""
    fill(plan, k, plan.global_batch)
    (folder / "plan.pickle").write_bytes(pickle.dumps(plan))
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2]), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", WORKER, str(folder / "plan.pickle"), str(k)]
    result = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    return dict(json.loads(result.stdout))


@pytest.fixture
def plan(recipe: RecipeMaker, tmp_path: Path) -> Callable[[int], StreamPlan]:
    def make(groups: int) -> StreamPlan:
        asked = recipe(data={"seq_len": 1024}, train={"epochs": 1, "global_batch": 64, "micro_batch": 8})
        return simulate(tmp_path / str(groups), groups, asked, {})

    return make


@pytest.mark.slow
def test_a_place_among_a_billion_cases_is_found_as_fast_as_among_a_million(
    plan: Callable[[int], StreamPlan], tmp_path: Path
) -> None:
    taken = {}
    for groups in (1000, 1_000_000):
        simulated = plan(groups)
        for part in (0.1, 0.9):
            taken[groups, part] = first_batch(simulated, int(part * simulated.total_sequences), tmp_path)
    assert all(facts["cases"] > 100 for facts in taken.values())
    small, large = taken[1000, 0.9], taken[1_000_000, 0.9]
    assert large["seconds"] < small["seconds"] + 3
    assert large["seconds"] < 1.5 * taken[1_000_000, 0.1]["seconds"] + 0.5
    assert large["anonymous_kib"] < 2**20  # 1 GiB, the libraries included


def test_memory_stays_flat_while_a_stream_runs(plan: Callable[[int], StreamPlan], tmp_path: Path) -> None:
    simulated = plan(64)
    fill(simulated, 0, simulated.total_sequences)
    tokenizer: Any = type("NoTokenizer", (), {"pad_token_id": 0})
    seen, cases = [], 0
    for number, step in enumerate(Stream(simulated, tokenizer, 0, 2).steps(0)):
        cases += step.cases
        if number % 20 == 0:
            seen.append(anonymous_kib())
    assert cases == 64_000
    assert max(seen[len(seen) // 2 :]) - seen[len(seen) // 4] < 8 * 1024


def anonymous_kib() -> int:
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(status["RssAnon"].split()[0])


def test_closing_a_resumed_stream_is_as_quick_as_opening_it(plan: Callable[[int], StreamPlan]) -> None:
    simulated = plan(64)
    fill(simulated, 0, simulated.total_sequences)
    tokenizer: Any = type("NoTokenizer", (), {"pad_token_id": 0})
    started = time.process_time()
    for k in range(0, simulated.total_sequences, simulated.total_sequences // 5):
        stream = Stream(simulated, tokenizer, 0, 2)
        next(stream.steps(k))
        stream.close()
    assert time.process_time() - started < 5
