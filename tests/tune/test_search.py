"""What a search promises about what it tries and what it saves, on learning curves from a formula."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest

from distmed.errors import UserError
from distmed.recipe import Recipe
from distmed.recipe_file import check
from distmed.tune.record import Record, Trial
from distmed.tune.selection import ranking
from distmed.tune.table import rows
from tests.tune.simulated import EVERY, LEAST, STEPS, macro_f1, recipe_with, search, search_in


def settings(record: Record) -> list[dict[str, Any]]:
    return [record.trials[number].setting for number in sorted(record.trials)]


def test_the_recipe_itself_is_the_first_trial_and_runs_to_its_end(tmp_path: Path) -> None:
    found = search(recipe_with(trials=12), tmp_path, seed=1)
    first = found.record.trials[0]
    assert first.setting["optimizer.lr"] == 1e-5
    assert (first.state, first.step) == ("done", STEPS)
    assert len(found.record.trials) == 12


def test_named_settings_come_next(tmp_path: Path) -> None:
    found = search(recipe_with(trials=3, initial=[{"optimizer.lr": 2e-4}]), tmp_path, seed=1)
    assert found.record.trials[1].setting["optimizer.lr"] == 2e-4


def test_it_is_said_which_named_settings_have_no_room(tmp_path: Path) -> None:
    named = [{"optimizer.lr": lr} for lr in (1e-4, 2e-4, 3e-4)]
    assert search_in(tmp_path, recipe_with(trials=4, initial=named)).proposals.notes == []
    few = search_in(tmp_path, recipe_with(trials=2, initial=named)).proposals
    assert few.notes == ["tune.trials=2 has no room for the last 2 of tune.initial"]


@pytest.mark.parametrize("how", ["optuna", "random"])
def test_the_same_seed_gives_the_same_trials(tmp_path: Path, how: str) -> None:
    runs = []
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        (tmp_path / name).mkdir()
        runs.append(search(recipe_with(trials=15, search=how), tmp_path / name, seed=seed).record)
    assert settings(runs[0]) == settings(runs[1])
    assert settings(runs[0]) != settings(runs[2])


def test_asha_stops_at_evaluations_and_only_there(tmp_path: Path) -> None:
    trials = search(recipe_with(trials=25), tmp_path, seed=1).record.trials.values()
    stopped = [trial for trial in trials if trial.state == "stopped"]
    assert stopped
    assert all(trial.step % EVERY == 0 and trial.step < STEPS for trial in stopped)


def test_grace_lets_every_trial_have_its_first_evaluations(tmp_path: Path) -> None:
    trials = search(recipe_with(trials=20, grace=3), tmp_path, seed=1).record.trials.values()
    assert min(trial.step for trial in trials) == 3 * EVERY


def test_the_median_rule_stops_the_worse_half_of_what_it_sees(tmp_path: Path) -> None:
    found = search(recipe_with(trials=25, scheduler="median", search="random", seed=1), tmp_path, seed=1)
    stopped = [trial for trial in found.record.trials.values() if trial.state == "stopped"]
    full = [trial for trial in found.record.trials.values() if trial.state == "done"]
    assert len(stopped) >= 5
    assert max(t.best("max").value for t in stopped) < max(t.best("max").value for t in full)  # type: ignore[union-attr]


@pytest.mark.slow
def test_asha_saves_six_tenths_of_the_steps_and_finds_the_same(tmp_path: Path) -> None:
    """Over 20 seeds: the mean share of the steps, and the best metric in each."""
    shares, losses = [], []
    for seed in range(20):
        for name in ("full", "asha"):
            (tmp_path / name).mkdir(exist_ok=True)
        full = search(recipe_with(trials=30, search="random", scheduler="none"), tmp_path / "full", seed=seed)
        asha = search(recipe_with(trials=30, search="random"), tmp_path / "asha", seed=seed)
        shares.append(asha.steps / full.steps)
        losses.append(full.best - asha.best)
    assert sum(shares) / len(shares) <= 0.4
    assert sum(loss <= 0.01 for loss in losses) >= 18


@pytest.mark.slow
def test_tpe_with_asha_beats_random_search_at_the_same_budget_of_steps(tmp_path: Path) -> None:
    budget = 20 * STEPS
    wins = 0
    for seed in range(50):
        for name in ("tpe", "random"):
            (tmp_path / name).mkdir(exist_ok=True)
        tpe = search(recipe_with(trials=200), tmp_path / "tpe", seed=seed, budget=budget)
        random = search(
            recipe_with(trials=200, search="random", scheduler="none"), tmp_path / "random", seed=seed, budget=budget
        )
        wins += tpe.best > random.best
    assert wins >= 40


@pytest.mark.parametrize("scheduler", ["asha", "median", "none"])
def test_a_killed_search_goes_on_without_running_anything_finished_again(tmp_path: Path, scheduler: str) -> None:
    recipe = recipe_with(trials=15, scheduler=scheduler)
    killed = search(recipe, tmp_path, seed=1, killed_after=40 * EVERY)
    before = {trial.number: (trial.state, trial.evaluations) for trial in killed.record.trials.values() if trial.ended}
    unfinished = [trial.number for trial in killed.record.trials.values() if not trial.ended]
    assert before and unfinished
    resumed = search(recipe, tmp_path, seed=1)
    assert len(resumed.record.trials) == 15
    assert all(trial.ended for trial in resumed.record.trials.values())
    for number, (state, evaluations) in before.items():
        assert (resumed.record.trials[number].state, resumed.record.trials[number].evaluations) == (state, evaluations)
    lines = (tmp_path / "search-1.jsonl").read_text().splitlines()
    assert sum('"start"' in line for line in lines) == 15 + len(unfinished)


def test_a_line_cut_short_by_a_kill_is_forgotten(tmp_path: Path) -> None:
    record = Record(tmp_path / "r.jsonl")
    record.start(Trial(0, 0, 0, {"a": 1}))
    record.evaluated(0, 5, 0.5, 0.3, {})
    with record.path.open("a") as file:
        file.write('{"event": "end", "tri')
    again = Record(record.path)
    assert again.trials[0].state == "waiting"
    assert again.trials[0].step == 5
    again.ended(0, "done")
    assert Record(record.path).trials[0].state == "done"


def test_a_trial_that_repeats_steps_after_a_restart_keeps_one_curve(tmp_path: Path) -> None:
    record = Record(tmp_path / "r.jsonl")
    record.start(Trial(0, 0, 0, {}))
    for step in (2, 4, 6):
        record.evaluated(0, step, step / 10, step / 10, {})
    record.retried(0, "its process died")
    record.evaluated(0, 4, 0.4, 0.5, {})
    assert [(each.step, each.value) for each in record.trials[0].evaluations] == [(2, 0.2), (4, 0.5)]
    assert record.trials[0].retries == 1


def test_seconds_are_those_with_workers_over_all_sessions(tmp_path: Path) -> None:
    now = [100.0]
    record = Record(tmp_path / "r.jsonl", clock=lambda: now[0])
    record.start(Trial(0, 0, 0, {}))
    now[0] = 130.0
    record.paused(0)
    now[0] = 500.0
    again = Record(tmp_path / "r.jsonl", clock=lambda: now[0])
    again.start(again.trials[0])
    now[0] = 510.0
    again.ended(0, "done")
    assert again.trials[0].seconds == 40.0


def test_one_lucky_seed_does_not_win(tmp_path: Path) -> None:
    def lucky(recipe: Recipe, progress: float, seed: int, trial: int) -> float:
        good = abs(math.log10(recipe.optimizer.lr) + 3.4) < 1
        return (0.6 if good else 0.4 + (0.5 if trial == 1 else 0.0)) * progress

    found = search(recipe_with(trials=8, seeds=3, scheduler="none", search="random"), tmp_path, seed=3, curve=lucky)
    trials = [found.record.trials[number] for number in sorted(found.record.trials)]
    assert {trial.repeat for trial in trials} == {0, 1, 2}
    assert len(trials) == 24
    ranks = ranking(trials, mode="max", seeds=3)
    assert ranks[0].mean == pytest.approx(0.6)
    assert ranks[0].sd == pytest.approx(0.0)
    assert all(len(rank.trials) == 3 for rank in ranks)


def test_a_setting_stopped_early_gets_no_other_seeds(tmp_path: Path) -> None:
    found = search(recipe_with(trials=15, seeds=2), tmp_path, seed=1)
    points: dict[int, list[Trial]] = {}
    for trial in found.record.trials.values():
        points.setdefault(trial.point, []).append(trial)
    assert any(trials[0].state == "stopped" for trials in points.values())
    for trials in points.values():
        assert len(trials) == (1 if trials[0].state == "stopped" else 2)


def test_values_that_are_not_finite_end_no_search(tmp_path: Path) -> None:
    def breaks(recipe: Recipe, progress: float, seed: int, trial: int) -> float:
        return math.nan if trial % 3 == 1 else macro_f1(recipe, progress, seed, trial)

    found = search(recipe_with(trials=12), tmp_path, seed=1, curve=breaks)
    assert len(found.record.trials) == 12
    assert math.isfinite(ranking(list(found.record.trials.values()), mode="max", seeds=1)[0].mean)


def test_a_grid_ends_when_it_has_been_tried(tmp_path: Path) -> None:
    space = {"optimizer.lr": {"choice": [1e-5, 1e-4, 1e-3]}, "optimizer.warmup": {"choice": [0.05, 0.1]}}
    found = search(recipe_with(space=space, search="grid", scheduler="none"), tmp_path, seed=1)
    tried = [(each["optimizer.lr"], each["optimizer.warmup"]) for each in settings(found.record)]
    assert sorted(tried) == [(lr, warmup) for lr in (1e-5, 1e-4, 1e-3) for warmup in (0.05, 0.1)]
    assert tried[0] == (1e-5, 0.05)


class Clock:
    """Stands still until it is set."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_what_a_search_has_cost_is_known_to_the_minute_after_a_kill(tmp_path: Path) -> None:
    """Eight hours, an evaluation after the first 100 s; the next driver begins a day later, and is killed as well."""
    clock, path = Clock(), tmp_path / "r.jsonl"
    record = Record(path, clock)
    record.start(Trial(0, 0, 0, {}, workers=4))
    record.start(Trial(1, 1, 0, {}, workers=4))
    clock.now = 100
    record.evaluated(0, 5, 0.5, 0.3, {})
    while clock.now < 8 * 3600:
        clock.now += 1
        record.beat()
    clock.now = 32 * 3600
    for hours in (8, 9):
        record = Record(path, clock)
        spent = [(trial.seconds / 3600, trial.accelerator_seconds / 3600) for trial in record.trials.values()]
        assert spent == [
            (pytest.approx(hours, abs=0.1), pytest.approx(4 * hours, abs=0.1)),
            pytest.approx((8, 32), abs=0.1),
        ]
        record.start(record.trials[0])
        clock.now += 3600
        record.beat()


def test_a_record_without_beats_reads_as_before(tmp_path: Path) -> None:
    clock, path = Clock(), tmp_path / "r.jsonl"
    record = Record(path, clock)
    record.start(Trial(0, 0, 0, {}))
    clock.now = 100
    record.evaluated(0, 5, 0.5, 0.3, {})
    assert not any("beat" in line for line in path.read_text().splitlines())
    assert Record(path).trials[0].seconds == 100


def test_each_session_counts_with_its_own_workers(tmp_path: Path) -> None:
    clock = Clock()
    recipe = recipe_with()
    for workers in (8, 1):
        found = search_in(tmp_path, recipe, workers=workers)
        found.record.clock = clock
        assert isinstance(found.propose("a"), dict)
        found.started(0)
        clock.now += 3600
        assert found.accelerator_hours() == (8 if workers == 8 else 9)
        found.record.paused(0)
    assert found.accelerator_hours() == 9
    assert rows(found)[0]["accelerator_hours"] == 9


LORA = {"rank": 4}
UNFIT = {"model.quantize": {"choice": [None, "nf4"]}, "model.lora": {"choice": [LORA, None]}}


def test_combinations_of_a_grid_that_fit_no_recipe_are_left_out_and_counted(tmp_path: Path) -> None:
    """Weights in 4 bits cannot be trained without adapters."""
    base = check({**LEAST, "model": {"path": "m", "lora": LORA}, "tune": {"space": UNFIT, "search": "grid"}})
    of = search_in(tmp_path, base)
    assert of.proposals.wanted == 3
    assert of.proposals.notes == [
        "left out as they fit no recipe: 1 of 4 combinations, the last: "
        "model.quantize: weights in 4 bits cannot be trained themselves"
    ]
    found = search(base, tmp_path, seed=1, curve=lambda recipe, progress, seed, trial: progress)
    tried = [(each["model.quantize"], each["model.lora"] is None) for each in settings(found.record)]
    assert tried == [(None, False), (None, True), ("nf4", False)]


def test_a_grid_of_which_nothing_fits_is_refused(tmp_path: Path) -> None:
    space = {"model.quantize": {"choice": ["nf4"]}, "model.lora": {"choice": [None]}}
    base = check({**LEAST, "model": {"path": "m", "lora": LORA}, "tune": {"space": space, "search": "grid"}})
    with pytest.raises(UserError, match=r"no combination of tune\.space fits the recipe.*4 bits"):
        search_in(tmp_path, base)
