"""The profiler writes a trace and a memory snapshot of the steps it was asked for, and nothing otherwise."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest
import torch

from distmed.errors import UserError
from distmed.recipe import Profile
from distmed.recipe_file import check
from distmed.train.profile import Profiler

CPU = torch.device("cpu")


def run(profiler: Profiler, steps: int) -> None:
    weight = torch.randn(16, 16, requires_grad=True)
    for number in range(1, steps + 1):
        profiler.step_begins(number)
        with torch.profiler.record_function(f"step {number}"):
            (weight @ weight).sum().backward()
        profiler.step_done(number)


def test_a_trace_and_a_snapshot_of_just_those_steps(tmp_path: Path) -> None:
    run(Profiler(Profile(steps=(2, 4)), tmp_path / "profile", 3, CPU), 6)
    names = sorted(path.name for path in (tmp_path / "profile").iterdir())
    assert names == ["memory-00003.json.gz", "trace-00003.json.gz"]
    trace = json.loads(gzip.decompress((tmp_path / "profile" / "trace-00003.json.gz").read_bytes()))
    seen = {event.get("name") for event in trace["traceEvents"]} & {f"step {n}" for n in range(1, 7)}
    assert seen == {"step 2", "step 3"}


def test_nothing_without_being_asked(tmp_path: Path) -> None:
    run(Profiler(None, tmp_path / "profile", 0, CPU), 3)
    assert not (tmp_path / "profile").exists()


@pytest.mark.parametrize("steps", [[3, 3], [5, 2], [0, 2]])
def test_a_range_without_steps_is_refused(steps: list[int]) -> None:
    with pytest.raises(UserError, match=r"train\.profile"):
        check(
            {
                "name": "a",
                "task": "generate",
                "model": {"path": "x"},
                "data": {"train": [{"source": "x"}]},
                "train": {"profile": {"steps": steps}},
            }
        )
