"""`distmed doctor` and a Ray cluster: a live one, and answers of hosts that are not well."""

from __future__ import annotations

from pathlib import Path

import pytest

from distmed.cluster import ray_cluster

ON_EVERY_HOST = "distmed.train.fit.on_every_host"


@pytest.mark.usefixtures("ray_address")
def test_a_host_of_a_cluster_looks_at_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As a task there, whose answer comes back."""
    from distmed.train.fit import on_every_host

    ((host, answer),) = on_every_host(lambda: ray_cluster.examine_host(str(tmp_path))).items()
    monkeypatch.setattr(ON_EVERY_HOST, lambda _: {host: answer, "10.0.0.2": answer})
    found = {finding.what: finding.found for finding in ray_cluster._hosts(str(tmp_path))}
    assert {"memory", "disk", "ray's disk", "interfaces"} <= set(found)
    assert "on all 2 hosts: " in found["memory"]
    assert "/ray" in found["ray's disk"]
