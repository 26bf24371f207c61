"""The same numbers as lm-evaluation-harness: its own tasks and prompts, on real questions and a random decoder."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.choice import compare

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def harness() -> str:
    """A python with lm-eval: this one, or DISTMED_HARNESS, since lm-eval brings packages that the project does not want."""
    python = os.environ.get("DISTMED_HARNESS", sys.executable)
    if subprocess.run([python, "-c", "import lm_eval"], capture_output=True).returncode:
        pytest.skip(
            "lm-eval is not installed: put it into an environment of its own, and name its python as DISTMED_HARNESS"
        )
    return python


def test_every_log_likelihood_is_that_of_the_harness(harness: str, shared_data: Path, tmp_path: Path) -> None:
    found = compare(harness, shared_data / "head_qa", tmp_path, limit=24, shape="tiny", vocab_size=1200)
    assert [(run.mode, run.shots) for run in found] == [("text", 0), ("letter", 0), ("letter", 5)]
    for run in found:
        assert run.largest_difference < 1e-4, run
        assert run.same_answers == run.questions == 24
        assert run.accuracy == pytest.approx(run.harness_accuracy)
