"""One Ray cluster for all faults: a head that runs no worker, as a cluster should have it, two hosts of one worker each, and n4
as a spare that has not joined. After each test no process of the run is left, and nothing of it in shared memory."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.lab.hosts import Lab, run, wait_until
from tests.lab.memory import orphans, shared_memory
from tests.lab.ray_nodes import RayCluster, ray_on
from tests.lab.runs import end_all, start

STEPS = 60


@pytest.fixture(scope="package")
def small_disk(lab: Lab) -> Iterator[Path]:
    """A disk of 192 MB that all hosts see. Mounted before they start anything: mounts of later do not reach them."""
    folder = lab.folder / "small"
    folder.mkdir()
    run("mount", "-t", "tmpfs", "-o", "size=192m", "lab", folder)
    yield folder
    run("umount", "--lazy", folder)


@pytest.fixture(scope="package")
def started(lab: Lab, small_disk: Path) -> Iterator[RayCluster]:
    with ray_on(lab.folder, lab.hosts[:3], cpus=[0, 1, 1]) as cluster:
        yield cluster


@pytest.fixture
def cluster(lab: Lab, started: RayCluster) -> Iterator[RayCluster]:
    """The head, n2 and n3, whatever the test before did to them."""
    started.become(lab.hosts[1:3])
    before = shared_memory()
    yield started
    end_all()
    wait_until("the end of all workers", 60, lambda: not workers(lab))
    wait_until("an end of shared memory without an owner", 10, lambda: not orphans(shared_memory() - before))


@pytest.fixture(scope="package")
def straight(lab: Lab, started: RayCluster, tmp_path_factory: pytest.TempPathFactory) -> dict[int, float]:
    """The losses of a run that met no fault."""
    arguments = [f"train.max_steps={STEPS}", "checkpoint.every=3", "--num-workers", "2"]
    met = start(tmp_path_factory.mktemp("straight"), lab[0], started, "straight", *arguments)
    status, output = met.end()
    assert status == 0, output
    assert list(met.losses) == list(range(1, STEPS + 1))
    return met.losses


def workers(lab: Lab) -> list[str]:
    commands = [command for host in lab.hosts for command in host.commands().values()]
    return [command for command in commands if "RayTrainWorker" in command]
