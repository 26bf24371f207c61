"""Scorers under Ray: two say what one says, one that dies is replaced, and what one finds wrong reaches the user."""

from __future__ import annotations

import io
from dataclasses import replace

import pytest

from distmed.cases.read import read_cases
from distmed.errors import UserError
from distmed.evaluate import pool
from distmed.evaluate.loading import open_model
from distmed.evaluate.pool import Pool
from distmed.evaluate.progress import Progress
from distmed.recipe import Source
from tests.evaluate.conftest import write_cases
from tests.evaluate.door import InProcess

pytestmark = pytest.mark.slow


@pytest.fixture
def scored(tiny, tmp_path, monkeypatch):
    """(opened model, 60 cases, what one scorer in this process says), in units of 8."""
    monkeypatch.setattr(pool, "UNIT", 8)
    opened = open_model(str(tiny("classify")), tmp_path)
    path = write_cases(tmp_path / "dev.jsonl")
    cases = list(read_cases(Source(source=str(path), format="phenopackets")))
    with InProcess(opened, tmp_path / "here", workers=1, progress=Progress(io.StringIO())) as here:
        return opened, cases, here.score(cases, "scoring")


@pytest.mark.usefixtures("ray_address")
def test_two_scorers_say_what_one_says(scored, tmp_path):
    opened, cases, table = scored
    with Pool(opened, tmp_path / "ray", workers=2, progress=Progress(io.StringIO())) as two:
        again = two.score(cases, "scoring")
        assert two.facts()["head"] == "trained"
    assert again.drop_columns("scores").equals(table.drop_columns("scores"))
    for ours, theirs in zip(again["scores"].to_pylist(), table["scores"].to_pylist(), strict=True):
        assert ours == pytest.approx(theirs, abs=1e-6)


@pytest.mark.usefixtures("ray_address")
def test_a_scorer_that_dies_is_replaced(scored, tmp_path):
    import ray

    opened, cases, table = scored
    said = io.StringIO()
    with Pool(opened, tmp_path / "ray", workers=1, progress=Progress(said)) as one:
        ray.kill(one._actors[0])
        again = one.score(cases, "scoring")
    assert "a scorer died: another one takes its place" in said.getvalue()
    assert again["prompt_hash"].equals(table["prompt_hash"])


@pytest.mark.usefixtures("ray_address")
def test_what_a_scorer_finds_wrong_is_told_as_it_is(scored, tmp_path):
    opened, cases, _ = scored
    wrong = replace(opened, folder=tmp_path, hash="wrong")
    with (
        Pool(wrong, tmp_path / "ray", workers=1, progress=Progress(io.StringIO())) as one,
        pytest.raises(UserError, match="sees no model at"),
    ):
        one.score(cases, "scoring")
