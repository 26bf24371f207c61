"""`distmed doctor`: a line a check, and a broken check does not end the others. Hosts that are alike are told once."""

from __future__ import annotations

import os
import resource
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from distmed.cli import main
from distmed.cluster import doctor, host
from distmed.cluster.doctor import examine
from distmed.cluster.finding import Finding, grouped
from distmed.errors import UserError
from distmed.train.fit import check_versions


def test_every_finding_says_ok_warn_or_fail_and_what_to_do(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    with pytest.raises(SystemExit):
        main(["doctor"])
    lines = capsys.readouterr().out.splitlines()
    assert {line.split()[0] for line in lines} <= {"ok", "warn", "fail"}
    assert all("->" in line for line in lines if not line.startswith("ok"))
    named = {line.split()[1] for line in lines}
    assert {"host", "python", "versions", "gpus", "memory", "ports", "slurm", "disk", "ray"} <= named | {"gpu"} | {
        "gpus"
    }


def test_a_check_that_breaks_is_a_finding(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken() -> Iterator[Finding]:
        raise RuntimeError("the driver is gone")
        yield

    monkeypatch.setattr(host, "_gpus", broken)
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    findings = list(examine())
    (broke,) = (finding for finding in findings if finding.what == "gpus")
    assert (broke.state, broke.found) == ("fail", "RuntimeError: the driver is gone")
    assert "mend what the error names" in broke.todo
    assert findings[-1].what == "ray"


def test_a_storage_that_cannot_be_written_to_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.access", lambda *_: False)
    (finding,) = host._disk("/somewhere/else")
    assert (finding.state, finding.found) == ("fail", "/ cannot be written to")


def test_an_interface_that_is_not_there_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NCCL_SOCKET_IFNAME", "ib77")
    assert "NCCL_SOCKET_IFNAME=ib77 is no interface" in next(f.found for f in host._interfaces() if f.state == "fail")


def test_a_name_server_that_does_not_answer_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def wait(*_: object) -> None:
        time.sleep(0.02)
        raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")

    monkeypatch.setattr(host, "NAMES_S", 0.01)
    monkeypatch.setattr("socket.getnameinfo", wait)
    (finding,) = host._names()
    assert finding.state == "warn"
    assert "/etc/resolv.conf" in finding.todo


def test_runs_and_rays_own_files_need_room_where_they_go(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Not in the folder that doctor is asked in, and not on the disk of /tmp if Ray is told another."""
    (tmp_path / "runs").mkdir()
    (tmp_path / "temp").mkdir()
    monkeypatch.setenv("DISTMED_RUNS", str(tmp_path / "runs"))
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path / "temp"))
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setattr(host, "DISK_WARN", 1)
    monkeypatch.setattr("ray._private.worker._global_node", None)
    found = {finding.what: finding for finding in examine()}
    assert found["disk"].found == str(tmp_path / "runs")
    assert str(tmp_path / "temp") in found["ray's disk"].found
    monkeypatch.setattr(host, "TEMP_FULL", 1.0)
    (full,) = host._rays_disk()
    assert full.state == "warn" and "--temp-dir" in full.todo


def test_a_cluster_that_does_not_answer_fails_with_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:1")
    last = list(examine(str(Path.cwd())))[-1]
    assert last.state == "fail" and "no Ray cluster answers" in last.found and last.todo


def test_hosts_with_different_versions_are_refused_by_name() -> None:
    same = {"torch": "2.13.0", "ray": "2.60.0"}
    check_versions({"10.0.0.1": same, "10.0.0.2": same})
    with pytest.raises(UserError, match=r"torch is 2\.12\.1 on 10\.0\.0\.2, 2\.13\.0 on 10\.0\.0\.1"):
        check_versions({"10.0.0.1": same, "10.0.0.2": {**same, "torch": "2.12.1"}})


@pytest.mark.parametrize(
    ("wanted", "up"),
    [
        ("eth", True),
        ("=eth", False),
        ("=eth0", True),
        ("ib0,eth0", True),
        ("ib,en", False),
        ("^docker0,lo", True),
        ("^eth", False),
        ("^=eth", True),
    ],
)
def test_interfaces_are_read_as_nccl_reads_them(wanted: str, up: bool) -> None:
    assert host._is_up(wanted, {"eth0", "eth1"}) == up


def test_gloo_takes_whole_names_only(monkeypatch: pytest.MonkeyPatch) -> None:
    for wanted in ("docker77", "^docker77"):
        monkeypatch.setenv("GLOO_SOCKET_IFNAME", wanted)
        assert any(f"GLOO_SOCKET_IFNAME={wanted} is no" in finding.found for finding in host._interfaces())


def test_hosts_that_are_alike_are_told_once_and_others_by_name() -> None:
    head = [Finding("ok", "gpus", "none"), Finding("ok", "memory", "16 GiB", now="9 available")]
    gpu = [Finding("ok", "gpu", "0: H100"), Finding("ok", "memory", "512 GiB", now="500 available")]
    busy = [Finding("warn", "gpu", "0: H100", "nvidia-smi"), Finding("ok", "memory", "512 GiB", now="400 available")]
    lines = [finding.line() for finding in grouped({"10.0.0.1": head, "10.0.0.2": gpu, "10.0.0.3": busy})]
    assert lines == [
        "ok    gpus              on 10.0.0.1: none",
        "ok    memory            on 10.0.0.1: 16 GiB; 9 available",
        "ok    memory            on 10.0.0.2, 10.0.0.3: 512 GiB",
        "ok    gpu               on 10.0.0.2: 0: H100",
        "warn  gpu               on 10.0.0.3: 0: H100  -> nvidia-smi",
    ]
    alike = list(grouped({"10.0.0.2": gpu, "10.0.0.4": gpu}))
    assert alike[0].found == "on all 2 hosts: 0: H100"


def test_nccls_version_and_variables_are_told_where_there_are_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    assert list(host._nccl()) == [] or torch.cuda.is_available()
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.nccl.version", lambda: (2, 28, 9))
    monkeypatch.setenv("NCCL_IB_HCA", "mlx5")
    (finding,) = host._nccl()
    assert finding.found.startswith("2.28.9; ") and "'NCCL_IB_HCA': 'mlx5'" in finding.found


@pytest.fixture
def infiniband(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Two devices with a port each, as /sys has them."""
    for device in ("mlx5_0", "mlx5_1"):
        port = tmp_path / device / "ports" / "1"
        port.mkdir(parents=True)
        (port / "state").write_text("4: ACTIVE\n")
    monkeypatch.setattr(host, "RDMA", tmp_path)
    monkeypatch.setattr("resource.getrlimit", lambda _: (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    return tmp_path


def test_a_port_of_rdma_that_is_not_active_is_told(infiniband: Path) -> None:
    assert list(host._rdma()) == [Finding("ok", "rdma", "mlx5_0, mlx5_1")]
    (infiniband / "mlx5_1" / "ports" / "1" / "state").write_text("1: DOWN\n")
    (finding,) = (each for each in host._rdma() if each.state == "warn")
    assert finding.found == "mlx5_1 port 1 is 1: DOWN"
    assert "NCCL_IB_HCA" in finding.todo


@pytest.mark.usefixtures("infiniband")
def test_rdma_needs_locked_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("resource.getrlimit", lambda _: (64 * 1024, 64 * 1024))
    monkeypatch.setattr(host, "_may_lock_memory", lambda: True)
    assert [finding.state for finding in host._rdma()] == ["ok"]
    monkeypatch.setattr(host, "_may_lock_memory", lambda: False)
    (finding,) = (each for each in host._rdma() if each.state == "warn")
    assert "64 KiB (ulimit -l)" in finding.found


@pytest.mark.parametrize(
    ("answer", "state"),
    [
        ("2 idle\n1 down*\n", "ok"),
        ("4 mixed-\n", "ok"),
        ("8 idle~\n", "ok"),
        ("4 down*\n2 drained\n", "warn"),
        ("3 idle*\n", "warn"),
        ("", "warn"),
    ],
)
def test_slurm_without_a_node_that_runs_jobs_is_told(
    answer: str, state: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    sinfo = tmp_path / "sinfo"
    sinfo.write_text(f"#!/bin/sh\nprintf '%s' '{answer}'\n")
    sinfo.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    (finding,) = doctor._slurm()
    assert finding.state == state
    assert bool(finding.todo) == (state == "warn")


def test_a_port_that_is_taken_on_another_address_of_this_machine_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """Unless our own cluster holds it."""
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setattr(doctor, "_own_addresses", lambda: ["127.0.0.1", "127.0.0.2"])
    with socket.create_server(("127.0.0.2", 0)) as server:
        port = server.getsockname()[1]
        monkeypatch.setattr(doctor, "RAY_PORTS", {port: "Ray's dashboard"})
        (taken,) = doctor._ports()
        assert (taken.state, taken.found) == ("warn", f"taken: {port} (Ray's dashboard)")
        monkeypatch.setenv("RAY_ADDRESS", "127.0.0.2:6390")
        (ours,) = doctor._ports()
        assert ours.state == "ok"
        monkeypatch.setenv("RAY_ADDRESS", "192.0.2.1:6379")
        (elsewhere,) = doctor._ports()
        assert elsewhere.state == "warn"
