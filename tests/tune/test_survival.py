"""What a search outlives: a process of it that is killed, a signal, a budget that is used up. The tiny model, a few steps."""

from __future__ import annotations

import json
import os
import signal
import time

import pytest

from distmed.tune.record import Record
from tests.tune.conftest import SMALL, TuneDoor, changed
from tests.tune.watching import finished, processes, table, wait_for

pytestmark = [pytest.mark.slow, pytest.mark.timeout(2000)]


def test_a_killed_search_goes_on_and_its_table_is_whole(door: TuneDoor) -> None:
    run = door.folder / "runs" / "small"
    values = changed(SMALL, tune__concurrency=1)
    process = door.start(values, start_new_session=True)
    wait_for(run, "end", process)
    time.sleep(2)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    ended = {number: trial.evaluations for number, trial in Record(run / "search.jsonl").trials.items() if trial.ended}
    assert ended
    finished(door.start(values, "--resume"))
    trials = Record(run / "search.jsonl").trials
    assert [row["state"] for row in table(run)] == ["done", "done"]
    for number, evaluations in ended.items():
        assert trials[number].evaluations == evaluations
    starts = [json.loads(line) for line in (run / "search.jsonl").read_text().splitlines() if '"start"' in line]
    assert all(start["trial"] not in ended for start in starts[len(starts) // 2 + 1 :])


def test_a_signal_saves_what_runs_and_resume_goes_on_from_there(door: TuneDoor) -> None:
    run = door.folder / "runs" / "small"
    values = changed(SMALL, train__max_steps=60, train__eval_every=4, tune__trials=1)
    process = door.start(values)
    wait_for(run, "evaluation", process)
    process.send_signal(signal.SIGUSR1)
    finished(process, status=130)
    trial = Record(run / "search.jsonl").trials[0]
    assert trial.state == "waiting"
    assert 0 < trial.step < 60
    finished(door.start(values, "--resume"))
    steps = [json.loads(line)["step"] for line in (run / "trials" / "00000" / "metrics.jsonl").read_text().splitlines()]
    assert steps == sorted(set(steps)) and steps[-1] == 60


def test_a_stopped_trial_gives_its_workers_to_the_next(door: TuneDoor) -> None:
    """With one place, the second trial can evaluate only on the place of the first, which would have had 2,000 steps."""
    values = changed(
        SMALL,
        train={**SMALL["train"], "max_steps": 2000, "eval_every": 2},
        optimizer={"lr": 1e-3},
        tune__metric="eval/loss",
        tune__scheduler="asha",
        tune__trials=4,
        tune__concurrency=2,
        tune__space={"optimizer.lr": {"choice": [1e-9, 1e-3]}},
        tune__initial=[{"optimizer.lr": 1e-9}] * 3,
        tune__reduction=2,
    )
    run = door.folder / "runs" / "small"
    process = door.start(values)
    end = wait_for(run, "end", process)
    assert end["state"] == "stopped"
    began = time.monotonic()
    while len(processes(door.folder, "ray::RayTrainWorker")) > 2 or Record(run / "search.jsonl").trials.keys() < {
        0,
        1,
        2,
    }:
        assert time.monotonic() - began < 60
        time.sleep(0.2)
    process.send_signal(signal.SIGINT)
    finished(process, status=130)
    assert not processes(door.folder, "ray::")


@pytest.mark.parametrize("who", ["ray::RayTrainWorker", "Trainable"])
def test_a_trial_goes_on_when_a_process_of_it_is_killed(door: TuneDoor, who: str) -> None:
    values = changed(SMALL, train__max_steps=40, tune__trials=1, checkpoint__every=4)
    run = door.folder / "runs" / "small"
    process = door.start(values)
    wait_for(run, "evaluation", process)
    for victim in processes(door.folder, who):
        victim.kill()
    finished(process)
    trial = table(run)[0]
    assert (trial["state"], trial["steps"]) == ("done", "40")
    assert trial["retries"] == ("0" if who == "ray::RayTrainWorker" else "1")
    steps = [json.loads(line)["step"] for line in (run / "trials" / "00000" / "metrics.jsonl").read_text().splitlines()]
    assert steps == sorted(set(steps)) and steps[-1] == 40
