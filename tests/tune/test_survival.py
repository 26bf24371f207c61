"""What a search outlives: a process of it that is killed, a signal, a budget that is used up. The tiny model, a few steps."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from typing import Any

import pandas as pd
import pytest

from distmed.tune.record import Record
from tests.tune.conftest import GRID, LR, Searched, TuneDoor, changed
from tests.tune.watching import events, finished, gone, processes, table, wait_for, wait_to_say

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("ray_address")]


def test_a_search_that_loses_one_process_after_the_other_finds_what_the_undisturbed_one_finds(
    door: TuneDoor, searched: Searched
) -> None:
    """To the last digit; and what has ended is not run again. A worker that hangs is lost too, and its stacks are told."""
    run = door.folder / "runs" / "small"
    values = changed(GRID, cluster={"stall_timeout_s": 30})
    process = door.start(values)
    wait_for(run, process, 0, "evaluation")
    kill("RayTrainWorker")
    wait_for(run, process, 0, "evaluation", len(events(run)))
    kill("Trainable")

    wait_for(run, process, 1, "evaluation")
    (stuck,) = processes("RayTrainWorker")
    stuck.suspend()
    wait_to_say(run, process, "trial 1: no step for 30 s: the stacks of all workers go to the log")
    for shown in ("--- stacks of rank 0", " run_worker (distmed/train/worker.py"):
        wait_to_say(run, process, shown)
    wait_for(run, process, 1, "evaluation", len(events(run)))

    process.kill()
    process.wait()
    gone()
    before = len(events(run))
    finished(door.start(values, "--resume"))

    assert {event["trial"] for event in events(run)[before:] if event["event"] != "beat"} == {1, 2}
    trials, undisturbed = table(run), table(searched.run)
    told = ("trial", "state", "cause", "metric", "steps", LR)
    assert [[row[key] for key in told] for row in trials] == [[row[key] for key in told] for row in undisturbed]
    # Ray Train brings a worker back by itself, one that hung too.
    assert [trial["retries"] for trial in trials] == ["1", "0", "0"]
    of_csv = pd.read_csv(run / "trials.csv", keep_default_na=False, float_precision="round_trip")
    assert list(of_csv["state"]) == list(pd.read_parquet(run / "trials.parquet")["state"])
    for number in (0, 1):
        path = f"trials/0000{number}/metrics.jsonl"
        assert losses((run / path).read_text()) == losses((searched.run / path).read_text())


def kill(name: str) -> None:
    victims = processes(name)
    assert victims
    for victim in victims:
        victim.kill()


def losses(metrics: str) -> list[tuple[int, float]]:
    """Each step once, in order."""
    lines = [json.loads(line) for line in metrics.splitlines()]
    found = [(line["step"], line["train/loss"]) for line in lines if "train/loss" in line]
    assert [step for step, _ in found] == list(range(1, 25))
    return found


@pytest.fixture
def two_places(ray_address: str) -> Iterator[None]:
    """Two of the four places are somebody else's."""
    import ray

    taken = ray.util.placement_group([{"CPU": 1}] * 2)
    assert taken.wait(30)
    yield
    ray.util.remove_placement_group(taken)


def test_a_signal_saves_a_stop_gives_its_place_to_the_next_a_death_is_told_and_a_budget_ends_the_search(
    door: TuneDoor, two_places: None
) -> None:
    """The first goes on and on: so the third can evaluate only on the place of the second."""
    values: dict[str, Any] = changed(
        GRID,
        optimizer__lr=1e-3,
        train__max_steps=2000,
        tune={
            "metric": "eval/loss",
            "concurrency": 2,
            "reduction": 2,
            "space": {LR: {"choice": [1e-3, 1e-9]}},
            "initial": [{LR: 1e-9}] * 2,
        },
    )
    run = door.folder / "runs" / "small"
    process = door.start(values, "tune.trials=1")
    wait_for(run, process, 0, "evaluation")
    process.send_signal(signal.SIGTERM)
    finished(process, status=130)
    gone()
    trial = Record(run / "search.jsonl").trials[0]
    assert trial.state == "waiting" and 0 < trial.step < 2000

    before = len(events(run))
    process = door.start(values, "tune.trials=3", "tune.retries=0", "--resume")
    assert wait_for(run, process, 1, "end")["state"] == "stopped"
    wait_for(run, process, 2, "evaluation")
    gone("RayTrainWorker", most=2)
    assert wait_for(run, process, 2, "end")["state"] == "stopped"
    again = wait_for(run, process, 0, "evaluation", before)
    assert again["step"] > trial.step
    kill("Trainable")
    finished(process)
    gone()
    states = [(row["state"], row["cause"]) for row in table(run)]
    assert [state for state, _ in states] == ["failed", "stopped", "stopped"] and "died" in states[0][1]

    # What was spent before counts: nothing starts, and the best so far wins, though its trial died later.
    finished(door.start(values, "tune.trials=9", "tune.retries=0", "tune.accelerator_hours=1e-6", "--resume"))
    assert [(row["state"], row["cause"]) for row in table(run)] == states
    assert json.loads((run / "summary.json").read_text())["ended_by"] == "tune.accelerator_hours=1e-06 ended"
    assert (run / "best.yaml").is_file() and (run / "best" / "model.safetensors").is_file()
