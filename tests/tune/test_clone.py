"""How a trial goes on as a copy of another's checkpoint, and what a search that was killed meanwhile still knows of it."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from unittest.mock import MagicMock

import fsspec
import pytest

from distmed.checkpoint import folder as folders
from distmed.checkpoint.storage import Storage
from distmed.errors import UserError
from distmed.rundir import RunDir
from distmed.tune import trial as trials
from distmed.tune.record import Record, Trial
from distmed.tune.search import Search
from distmed.tune.space import Space
from distmed.tune.trial import Order, Plan, TrialRun, trial_folder
from tests.tune.simulated import recipe_with

LR = "optimizer.lr"
VALUE = {"progress": 0.4, "metrics": {}, "value": 0.9}
MARKER = "rank-0-of-1.json"
HALF_WRITTEN = "step-00000030-world-2-attempt-0"


@pytest.fixture
def search(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Search:
    """Two trials at step 30; the first has whole checkpoints of steps 10 and 20, and is just writing that of 30."""
    monkeypatch.setattr(folders, "why_incomplete", lambda folder, _=None: _why(folder))
    recipe = recipe_with(space={LR: {"loguniform": [1e-6, 1e-2]}}, scheduler="pbt", trials=2)
    assert recipe.tune is not None
    record = Record(tmp_path / "search.jsonl")
    for number in (0, 1):
        record.start(Trial(number, number, 0, {LR: 10.0 ** -(3 + number)}))
        for step in (10, 20, 30):
            record.evaluated(number, step, step / 100, 0.5 - 0.1 * number, {})
    monkeypatch.chdir(tmp_path)
    plan = Plan(recipe, RunDir(Path("run")), "diag/macro_f1", 2, 2, {})
    for name in ("step-00000010-world-2-attempt-0", "step-00000020-world-2-attempt-0", HALF_WRITTEN):
        for rank in (0, 1):
            path = plan.run / "trials" / "00000" / "checkpoints" / name / f"rank-{rank}.safetensors"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(f"{name} of rank {rank}")
    return Search(plan, Space(recipe), recipe.tune, record, mode="max", first_progress=0.1)


def _why(folder: str | Path | Storage) -> str | None:
    return "still being written" if str(folder).endswith(HALF_WRITTEN) else None


def test_a_copy_takes_every_rank_of_the_newest_whole_checkpoint_and_keeps_it_when_the_source_goes_on(
    search: Search,
) -> None:
    order = search.clone(1, 0, {LR: 5e-4})
    assert order is not None and (order.trial, order.generation, order.setting) == (1, 1, {LR: 5e-4})
    run, recipe = search.place(1)
    assert (run.path.name, recipe.optimizer.lr) == ("00001.1", 5e-4)
    source, copied = search.plan.run / "trials" / "00000" / "checkpoints", run.checkpoints
    Storage.at(str(source)).remove()
    assert [path.name for path in copied.iterdir()] == ["step-00000020-world-2-attempt-0"]
    texts = [path.read_text() for path in sorted(copied.glob("*/*"))]
    assert texts == [f"step-00000020-world-2-attempt-0 of rank {rank}" for rank in (0, 1)]
    assert [(phase.step, phase.setting[LR]) for phase in search.record.trials[1].phases] == [(0, 1e-3), (20, 5e-4)]


def test_the_result_for_which_it_became_a_copy_is_not_told_of_the_copy(search: Search) -> None:
    search.clone(1, 0, {LR: 5e-4})
    search.reported(1, {**VALUE, "step": 40, "generation": 0})
    assert search.record.trials[1].best("max") is None
    search.reported(1, {**VALUE, "step": 30, "generation": 1})
    assert [each.step for each in search.record.trials[1].own_evaluations] == [30]


@pytest.mark.parametrize(("number", "state"), [(0, "waiting"), (1, "failed")])
def test_a_mistake_in_the_recipe_itself_ends_the_search_and_one_in_a_setting_its_trial(
    search: Search, number: int, state: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("distmed.tune.search.write_tables", lambda search: None)
    cause = "checkpoint.best: the evaluation gave no diag/top1/sex=other"
    search.reported(number, {"done": True, "state": "failed", "cause": cause, "hint": "use one of eval/loss"})
    assert search.record.trials[number].state == state
    if number == 0:
        assert search.refused is not None and search.closed
        assert (cause in search.refused.message, search.refused.hint) == (True, "use one of eval/loss")
    else:
        assert (search.refused, search.closed) == (None, "")


def test_a_search_killed_after_that_goes_on_with_the_copy(search: Search, tmp_path: Path) -> None:
    order = search.clone(1, 0, {LR: 5e-4})
    tune = search.tune
    again = Search(search.plan, search.space, tune, Record(tmp_path / "search.jsonl"), mode="max", first_progress=0.1)
    assert again._order(again.record.trials[1]) == order
    assert again.place(1)[0].path.name == "00001.1"


def test_what_a_killed_search_copied_without_saying_so_is_no_part_of_the_next_copy(search: Search) -> None:
    stale = (
        search.plan.run
        / "trials"
        / "00001.1"
        / "checkpoints"
        / "step-00000099-world-2-attempt-0"
        / "rank-0.safetensors"
    )
    stale.parent.mkdir(parents=True)
    stale.write_text("of another trial")
    search.clone(1, 0, {LR: 5e-4})
    assert not stale.exists()


def test_nobody_is_copied_before_a_whole_checkpoint_of_his_own(search: Search) -> None:
    assert search.clone(0, 1, {LR: 5e-4}) is None
    assert search.record.trials[0].clones == 0
    search.clone(1, 0, {LR: 5e-4})
    # Its checkpoint of step 20 was made by the source, and says nothing of its own setting.
    assert search.clone(0, 1, {LR: 1e-4}) is None


def test_what_a_trial_was_before_is_taken_away_once_it_reports_as_a_copy(search: Search) -> None:
    before = checkpoint(search, 1, 0, 30)
    search.clone(1, 0, {LR: 5e-4})
    assert before.exists()
    search.reported(1, {**VALUE, "step": 30, "generation": 1})
    assert not before.exists()
    assert search.place(1)[0].checkpoints.is_dir()


def test_at_the_end_only_the_last_generation_of_the_winner_stays(
    search: Search, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also of what was left where a session was killed."""
    monkeypatch.setattr("distmed.tune.search.write_tables", lambda search: None)
    for _ in range(2):
        search.clone(1, 0, {LR: 5e-4})
    for generation in range(3):
        checkpoint(search, 1, generation, 10)
    for number in (0, 1):
        search.ended(number, "done")
    search.prune(keep={1})
    left = {path.parent.name for path in (search.plan.run / "trials").glob("*/checkpoints")}
    assert left == {"00001.2"}


def test_what_a_paused_trial_is_to_be_copied_from_stays(search: Search, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("distmed.tune.search.write_tables", lambda search: None)
    search.clone(1, 0, {LR: 5e-4})
    search.record.paused(1)
    search.ended(0, "done")
    search.prune(keep=set())
    assert search.record.trials[1].copied is not None and Path(search.record.trials[1].copied).is_dir()


def checkpoint(search: Search, number: int, generation: int, step: int) -> Path:
    folder = trial_folder(search.plan.run, number, generation).checkpoints / f"step-{step:08d}-world-2-attempt-0"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "rank-0.safetensors").write_text("weights")
    return folder


def test_a_copy_to_a_remote_storage_that_was_cut_short_is_made_anew(
    search: Search, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The trial's process died between two files of it."""
    monkeypatch.setattr(
        folders,
        "why_incomplete",
        lambda folder, _=None: None if MARKER in Storage.at(folder).children() else "no marker",
    )
    store = fsspec.filesystem("memory")
    name = "step-00000020-world-1-attempt-0"
    for file in ("rank-0.safetensors", MARKER):
        store.pipe(f"/store/run-00000/{name}/{file}", b"of the source")
    store.pipe(f"/store/run-00001.1/{name}/rank-0.safetensors", b"of")
    run = TrialRun(search.plan, Order(1, 1, 0, {LR: 5e-4}, 1, f"memory://store/run-00000/{name}"))
    monkeypatch.setattr(trials, "ray", MagicMock())
    monkeypatch.setattr(trials, "start_logbook", MagicMock())
    monkeypatch.setattr(trials, "_free", lambda name: None)
    monkeypatch.setattr(trials, "Training", MagicMock(side_effect=UserError("it trains", "")))
    monkeypatch.setattr("distmed.train.preparation.write_run_files", lambda job: None)
    monkeypatch.setattr(run, "_make_job", lambda: SimpleNamespace(checkpoints="memory://store/run-00001.1"))
    assert run.next()["cause"] == "it trains"
    copied = Storage.at(f"memory://store/run-00001.1/{name}")
    assert {file: (copied / file).read() for file in copied.children()} == {
        "rank-0.safetensors": b"of the source",
        MARKER: b"of the source",
    }
