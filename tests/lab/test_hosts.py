"""A run that spans hosts: each worker on a host of its own, one loss curve."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.lab.hosts import Lab
from tests.lab.ray_nodes import RayCluster, ray_on
from tests.lab.runs import start


@pytest.fixture(scope="module")
def two_hosts(lab: Lab) -> Iterator[RayCluster]:
    with ray_on(lab.folder, lab.hosts[:2], cpus=1) as cluster:
        yield cluster


def test_hosts_have_names_addresses_and_ports_of_their_own(lab: Lab) -> None:
    assert [host.run("hostname").stdout.strip() for host in lab.hosts] == ["n1", "n2", "n3", "n4"]
    assert "10.77.0.12" in lab[1].run("ip", "-4", "address", "show", "eth0").stdout
    assert lab[0].run("ping", "-c1", "-W2", lab[1].address, check=False).returncode in (0, 127)


def test_a_run_spans_two_hosts(lab: Lab, two_hosts: RayCluster, tmp_path: Path) -> None:
    run = start(tmp_path, lab[0], two_hosts, "span", "train.max_steps=8", "--num-workers", "2")
    run.wait_for_step(1)
    workers = [[c for c in host.commands().values() if "RayTrainWorker" in c] for host in lab.hosts[:2]]
    status, output = run.end()
    assert status == 0, output
    assert [len(found) for found in workers] == [1, 1]
    assert list(run.losses) == list(range(1, 9))
    assert run.summary["steps"] == 8
