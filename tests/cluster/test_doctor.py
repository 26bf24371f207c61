"""`distmed doctor` on a machine without a cluster: a line a check, and a broken check does not end the others."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from distmed.cli import main
from distmed.cluster import doctor
from distmed.cluster.doctor import Finding, examine
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

    monkeypatch.setattr(doctor, "_gpus", broken)
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    findings = list(examine())
    assert [finding.found for finding in findings if finding.state == "fail" and "driver" in finding.found] == [
        "RuntimeError: the driver is gone"
    ]
    assert findings[-1].what == "ray"


def test_a_storage_that_cannot_be_written_to_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.access", lambda *_: False)
    (finding,) = doctor._disk("/somewhere/else")
    assert (finding.state, finding.found) == ("fail", "/ cannot be written to")


def test_an_interface_that_is_not_there_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NCCL_SOCKET_IFNAME", "ib77")
    assert "NCCL_SOCKET_IFNAME=ib77 is no interface" in next(f.found for f in doctor._interfaces() if f.state == "fail")


def test_a_name_server_that_does_not_answer_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def wait(*_: object) -> None:
        time.sleep(0.02)
        raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")

    monkeypatch.setattr(doctor, "NAMES_S", 0.01)
    monkeypatch.setattr("socket.getnameinfo", wait)
    (finding,) = doctor._names()
    assert finding.state == "warn"
    assert "/etc/resolv.conf" in finding.todo


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
    assert doctor._is_up(wanted, {"eth0", "eth1"}) == up


def test_gloo_takes_whole_names_only(monkeypatch: pytest.MonkeyPatch) -> None:
    for wanted in ("docker77", "^docker77"):
        monkeypatch.setenv("GLOO_SOCKET_IFNAME", wanted)
        assert any(f"GLOO_SOCKET_IFNAME={wanted} is no" in finding.found for finding in doctor._interfaces())
