"""A billion cases, simulated: what a worker needs to find its place among them."""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import pytest

from distmed.recipe import Recipe
from distmed.stream.stream import Stream, StreamPlan
from tests.stream.simulated import fill, simulate

RecipeMaker = Callable[..., Recipe]

WORKER = """
import json, pickle, sys, time
from collections import Counter
from types import SimpleNamespace
from distmed.stream.stream import Stream

def resident():
    status = dict(line.split(":", 1) for line in open("/proc/self/status"))
    return {kind: int(status[name].split()[0]) for kind, name in (("anonymous_kib", "RssAnon"), ("mapped_kib", "RssFile"))}

before, started, events = resident(), time.process_time(), Counter()
if sys.argv[3] == "counted":
    sys.setprofile(lambda frame, event, argument: events.update([event]))
with open(sys.argv[1], "rb") as file:
    plan = pickle.load(file)
stream = Stream(plan, SimpleNamespace(pad_token_id=0), 0, 8)
step = next(stream.steps(int(sys.argv[2]), prefetch=False))
sys.setprofile(None)
after = resident()
print(json.dumps({
    "seconds": time.process_time() - started,
    "calls": events["call"] + events["c_call"],
    "mapped_kib": after["mapped_kib"] - before["mapped_kib"],
    "anonymous_kib": after["anonymous_kib"],
    "cases": step.cases,
}))
"""


def first_batch(plan: StreamPlan, k: int, folder: Path, how: Literal["timed", "counted"]) -> dict[str, Any]:
    """What a fresh worker takes for its first batch from position k on: seconds of the CPU, or function calls (which slows it);
    memory of side files, its own memory."""
    fill(plan, k, plan.global_batch)
    (folder / "plan.pickle").write_bytes(pickle.dumps(plan))
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2]), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", WORKER, str(folder / "plan.pickle"), str(k), how]
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
            taken[groups, part] = first_batch(simulated, int(part * simulated.total_sequences), tmp_path, "counted")
    assert all(facts["cases"] > 100 for facts in taken.values())
    small, large = taken[1000, 0.9], taken[1_000_000, 0.9]
    assert large["calls"] < 1.5 * small["calls"]
    assert large["calls"] < 1.1 * taken[1_000_000, 0.1]["calls"]
    assert large["mapped_kib"] < small["mapped_kib"] + 2**16
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


def test_closing_a_resumed_stream_makes_no_further_steps(
    plan: Callable[[int], StreamPlan], monkeypatch: pytest.MonkeyPatch
) -> None:
    simulated = plan(64)
    fill(simulated, 0, simulated.total_sequences)
    tokenizer: Any = type("NoTokenizer", (), {"pad_token_id": 0})
    made: list[int] = []
    step = Stream._step
    monkeypatch.setattr(Stream, "_step", lambda self, k: made.append(k) or step(self, k))
    for k in range(0, simulated.total_sequences, simulated.total_sequences // 5):
        made.clear()
        stream = Stream(simulated, tokenizer, 0, 2)
        next(stream.steps(k))
        stream.close()
        # One taken, two ready, one waiting for room, one begun.
        assert 1 <= len(made) <= 5
