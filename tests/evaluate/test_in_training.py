"""What training computes at an evaluation: the same for any number of workers, and a figure for `checkpoint.best` to name."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch.distributed as dist

from distmed.cases.case import Case
from distmed.errors import UserError
from distmed.evaluate.metrics import LOWER_IS_BETTER, METRICS, diagnosis_metrics
from distmed.recipe_file import check
from distmed.train.evaluation import Evaluator, Scores, labeled_cases
from distmed.train.preparation import _check_metric
from distmed.train.state import Best, RunState

LABELS = [f"disease {k}" for k in range(8)]


def gathered(parts: list[Scores], cases: int, monkeypatch: pytest.MonkeyPatch) -> Scores | None:
    """What the first worker has after all workers sent theirs, of so many cases."""

    def gather(mine: Scores, into: list[Any] | None) -> None:
        assert into is not None and mine is parts[0]
        into[:] = parts

    monkeypatch.setattr(dist, "get_world_size", lambda: len(parts))
    monkeypatch.setattr(dist, "gather_object", gather)
    job = SimpleNamespace(eval_plan=SimpleNamespace(cases=cases))
    return Evaluator._gather(SimpleNamespace(rank=0, job=job), parts[0])  # type: ignore[arg-type]


def part(cases: Any, members: np.ndarray) -> Scores:
    return Scores(
        members, cases.gold_N[members], cases.probabilities_NK[members], float(len(members)), len(cases.gold_N)
    )


@pytest.mark.parametrize("workers", [1, 2, 3, 7])
def test_the_figures_are_those_of_one_worker_to_the_last_digit(workers, drawn, monkeypatch):
    cases = drawn(101)
    order = np.random.default_rng(workers).permutation(101)
    scores = gathered([part(cases, members) for members in np.array_split(order, workers)], 101, monkeypatch)
    assert scores is not None and scores.loss_sum == 101
    subgroups = {"sex": ["female" if n % 2 else "male" for n in range(101)]}
    alone = diagnosis_metrics(cases.probabilities_NK, cases.gold_N, LABELS, subgroups)
    assert diagnosis_metrics(scores.probabilities_NK, scores.gold_N, LABELS, subgroups) == alone
    assert set(METRICS) | {"diag/top1/sex=female", "diag/top1/sex=male"} == set(alone)


@pytest.mark.parametrize("second", [range(5, 10), range(6, 9), range(5, 9)])
def test_a_case_that_two_workers_scored_or_none_is_a_fault(second, drawn, monkeypatch):
    cases = drawn(10)
    parts = [part(cases, np.arange(6)), part(cases, np.array(second))]
    with pytest.raises(RuntimeError, match="twice or not at all"):
        gathered(parts, 10, monkeypatch)


def eval_set(tmp_path: Path, cases: list[Case]) -> Any:
    """A job with these eval cases."""
    from distmed.prepare.shards import write_shards

    manifest = write_shards(cases, tmp_path / "eval", format="columns", rows_per_group=1)
    plan = SimpleNamespace(manifests=[manifest], skipped=[])
    tracking = SimpleNamespace(log_examples=False)
    return SimpleNamespace(
        eval_plan=plan, labels=["a", "b"], label_names=["a", "b"], recipe=SimpleNamespace(tracking=tracking)
    )


def test_a_case_without_a_label_is_neither_right_nor_wrong(tmp_path):
    def case(n: int, label: str | None) -> Case:
        return Case(str(n), "diagnosis", str(n), text="x", label=label, label_name=label, subgroups={"sex": "male"})

    job = eval_set(tmp_path, [case(0, "a"), case(1, None), case(2, "b"), case(3, None)])
    labeled_M, subgroups = labeled_cases(job.eval_plan)
    logbook = SimpleNamespace(log_tables=SimpleNamespace(remote=lambda *_: None))
    held = SimpleNamespace(job=job, labeled_M=labeled_M, subgroups=subgroups)
    scores = Scores(np.arange(4), np.array([0, -1, 1, -1]), np.array([[0.9, 0.1], [0.5, 0.5]] * 2), 8.0, 4.0)
    state = RunState(step=1)
    metrics = Evaluator._report(held, scores, state, logbook)  # type: ignore[arg-type]
    assert (metrics["eval/loss"], metrics["diag/top1"]) == (2.0, 0.5)
    held.labeled_M = np.empty(0, dtype=np.int64)
    assert Evaluator._report(held, scores, state, logbook) == {"eval/loss": 2.0}  # type: ignore[arg-type]


def test_what_could_not_be_read_moves_no_case_to_the_place_of_another(tmp_path):
    def case(n: int, sex: str) -> Case:
        return Case(str(n), "diagnosis", str(n), text="x", label="a", label_name="a", subgroups={"sex": sex})

    job = eval_set(tmp_path, [case(n, sex) for n, sex in enumerate(("male", "male", *["female"] * 5))])
    plan = job.eval_plan
    plan.skipped = [{"shard": 0, "group": 1, "rows": 1, "why": "unreadable"}]
    plan.table = lambda: SimpleNamespace(starts=lambda numbers, epoch: np.where(numbers == 1, -1, 0))
    labeled_M, subgroups = labeled_cases(plan)
    assert labeled_M.tolist() == [0, 2, 3, 4, 5, 6]
    assert subgroups == {"sex": ["male", *["female"] * 5]}
    held = SimpleNamespace(job=job, labeled_M=labeled_M, subgroups=subgroups)
    probabilities = np.array([[0.1, 0.9], *[[0.9, 0.1]] * 5])
    scores = Scores(labeled_M, np.zeros(6, np.int64), probabilities, 6.0, 6.0)
    logbook = SimpleNamespace(log_tables=SimpleNamespace(remote=lambda *_: None))
    metrics = Evaluator._report(held, scores, RunState(step=1), logbook)  # type: ignore[arg-type]
    assert (metrics["diag/top1"], metrics["diag/top1/sex=female"]) == (pytest.approx(5 / 6), 1.0)


def recipe(best: str) -> Any:
    data = {"train": [{"source": "-"}], "eval": [{"source": "-"}]}
    return check({"name": "x", "task": "classify", "model": {"path": "x"}, "data": data, "checkpoint": {"best": best}})


@pytest.mark.parametrize("name", [*METRICS, "eval/loss", "diag/top1/sex=female"])
def test_the_best_checkpoint_can_be_that_of_any_figure(name):
    _check_metric(recipe(name))
    plan = SimpleNamespace(identity={"data manifest": "these cases"})
    held = SimpleNamespace(job=SimpleNamespace(recipe=recipe(name), eval_plan=plan))
    for value, better in ((0.4, name in LOWER_IS_BETTER), (0.6, name not in LOWER_IS_BETTER)):
        state = RunState(evaluation={name: value}, step=2, best=Best(0.5, 1))
        assert Evaluator._improves(held, state) == better  # type: ignore[arg-type]
        assert state.best == (Best(value, 2) if better else Best(0.5, 1))
        assert state.judged_on == ("these cases" if better else "")


@pytest.mark.parametrize("best", [None, Best(0.5, 1)])
def test_a_figure_that_is_no_number_is_never_the_best(best):
    """Nothing is better than it, so that it would stay."""
    held = SimpleNamespace(job=SimpleNamespace(recipe=recipe("diag/auroc_macro"), eval_plan=None))
    state = RunState(evaluation={"diag/auroc_macro": float("nan")}, step=2, best=best)
    assert not Evaluator._improves(held, state)  # type: ignore[arg-type]
    assert state.best == best


def test_a_figure_that_no_evaluation_gives_is_refused():
    with pytest.raises(UserError, match="no evaluation gives diag/f1"):
        _check_metric(recipe("diag/f1"))
