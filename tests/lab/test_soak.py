"""A long run under random faults: it completes, and no case is lost or repeated in what was committed.

LAB_SOAK_S seconds (300 without it); a fault every 60 to 90 s: a worker killed or paused, a host lost for 30 s, a link cut.
"""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from distmed.train.resume import newest_saved
from tests.lab.hosts import Lab
from tests.lab.ray_nodes import ray_on
from tests.lab.runs import ENDLESS, GLOBAL_BATCH, start

SOAK_S = float(os.environ.get("LAB_SOAK_S", "300"))


@pytest.mark.timeout(SOAK_S * 3 + 1200)
def test_a_run_outlives_a_random_fault_every_minute(lab: Lab, tmp_path: Path) -> None:
    chance = random.Random(7)
    with ray_on(lab.folder, lab.hosts[:3], cpus=[0, 1, 1]) as cluster:
        arguments = [
            ENDLESS,
            "checkpoint.every=5",
            "cluster.num_workers=[1,2]",
            "cluster.max_failures=-1",
            # One host may be lost while the other has not come back yet.
            "cluster.wait_s=300",
        ]
        run = start(tmp_path, lab[0], cluster, "soak", *arguments)
        run.wait_for_step(3)

        def strike(number: signal.Signals) -> None:
            """One worker, where there is one now."""
            for host in chance.sample(lab.hosts[1:3], 2):
                if host.kill(naming="RayTrainWorker", number=number):
                    return

        def kill() -> None:
            strike(signal.SIGKILL)

        def pause() -> None:
            strike(signal.SIGSTOP)
            time.sleep(10)
            for host in lab.hosts[1:3]:
                host.kill(naming="RayTrainWorker", number=signal.SIGCONT)

        def lose() -> None:
            host = chance.choice(lab.hosts[1:3])
            cluster.lose(host)
            time.sleep(30)
            cluster.join(host, 1)

        def cut() -> None:
            host = chance.choice(lab.hosts[1:3])
            host.cut()
            time.sleep(10)
            host.mend()

        deadline = time.monotonic() + SOAK_S
        deck: list[Callable[[], None]] = []
        met = []
        while time.monotonic() < deadline:
            # In random order, but each of them also in the short form.
            deck = deck or chance.sample([kill, pause, lose, cut], 4)
            fault = deck.pop()
            met.append(fault.__name__)
            fault()
            time.sleep(chance.uniform(60, 90))
            assert run.process.poll() is None, f"after {met}: {run.output()}"
        run.process.send_signal(signal.SIGTERM)
        status, output = run.end()
    assert status == 130, f"after {met}: {output}"
    # Each step is in the committed history once, and a step's cases follow from its number alone.
    assert list(run.losses) == list(range(1, max(run.losses) + 1)), met
    assert run.checkpoints[-1].startswith(f"step-{max(run.losses):08d}-")
    saved = newest_saved(str(run.path / "checkpoints"))
    assert saved is not None and saved.state["run"]["k"] == max(run.losses) * GLOBAL_BATCH
