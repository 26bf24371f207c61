"""`distmed doctor` and a Ray cluster: a live one, and answers of hosts that are not well."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from distmed.cluster import ray_cluster
from distmed.cluster.finding import Finding
from distmed.errors import UserError

ON_EVERY_HOST = "distmed.train.fit.on_every_host"


def test_a_live_cluster_gives_a_line_a_check(ray_address: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("RAY_ADDRESS", ray_address)
    findings = {finding.what: finding for finding in ray_cluster.examine_cluster(str(tmp_path / "runs"))}
    assert set(findings) == {"ray", "token", "same versions", "clocks", "shared storage"}
    assert {finding.state for finding in findings.values()} == {"ok"}, findings
    assert findings["ray"].found.startswith("1 hosts, 4 CPUs, ")
    assert not (tmp_path / "runs").exists()


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


@pytest.mark.usefixtures("ray_address")
def test_a_line_that_fails_hides_no_other(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def differ(_: object) -> None:
        raise UserError("torch is 2.12.1 on 10.0.0.2, 2.13.0 on 10.0.0.1", "install the same on all hosts")

    monkeypatch.setenv("RAY_ADDRESS", "auto")
    monkeypatch.setattr("distmed.train.fit.check_versions", differ)
    states = {finding.what: finding.state for finding in ray_cluster.examine_cluster(str(tmp_path))}
    assert states["same versions"] == "fail"
    assert (states["clocks"], states["shared storage"]) == ("ok", "ok")


@pytest.mark.parametrize(("asks", "state"), [((True, True), "ok"), ((True, False), "warn"), ((False, False), "warn")])
def test_whether_a_token_is_asked_for_is_what_the_hosts_say(
    asks: tuple[bool, bool], state: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A token in this shell turns nothing on."""
    monkeypatch.setenv("RAY_AUTH_TOKEN", "planted")
    monkeypatch.setattr(ON_EVERY_HOST, lambda _: dict(zip(("10.0.0.1", "10.0.0.2"), asks, strict=True)))
    (finding,) = ray_cluster._token()
    assert finding.state == state
    assert ("10.0.0.1" in finding.found) == (state == "warn" and not asks[0])
    assert "planted" not in finding.line()


def clocks(monkeypatch: pytest.MonkeyPatch, off_s: float, takes_s: list[float]) -> Finding:
    """With one host whose clock is off, which is read in the middle of questions that take so long."""
    now = [1000.0]
    durations = iter(takes_s)

    def ask(_: Callable[[], float]) -> dict[str, float]:
        takes = next(durations)
        answer = now[0] + takes / 2 + off_s
        now[0] += takes
        return {"10.0.0.1": now[0] - takes / 2, "10.0.0.2": answer}

    monkeypatch.setattr(ON_EVERY_HOST, ask)
    monkeypatch.setattr(time, "time", lambda: now[0])
    (finding,) = ray_cluster._clocks()
    return finding


@pytest.mark.parametrize("off_s", [-3.0, 3.0])
def test_a_clock_that_is_off_does_not_hide_in_the_time_a_question_takes(
    off_s: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    finding = clocks(monkeypatch, off_s, [8.0, 0.2, 0.04, 0.1])
    assert (finding.state, finding.found) == ("warn", "10.0.0.2 is off by 3.0 s")


def test_clocks_that_agree_are_told_with_what_can_be_known(monkeypatch: pytest.MonkeyPatch) -> None:
    finding = clocks(monkeypatch, 0.0, [8.0, 2.0, 2.0, 2.0])
    assert (finding.state, finding.found) == ("ok", "within 3.0 s")


@contextmanager
def job_server(status: int, body: str) -> Iterator[str]:
    """A dashboard that gives one answer."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            self.end_headers()
            self.wfile.write(body.encode())

        def log_message(self, *_: Any) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.mark.parametrize(
    ("status", "body", "state", "told"),
    [
        (200, '{"ray_version": "SAME"}', "ok", ""),
        (200, '{"ray_version": "2.9.0"}', "warn", "install ray 2.9.0"),
        (401, "who are you?", "fail", "RAY_AUTH_MODE=token"),
        (200, "<html>a router</html>", "fail", "mend the address"),
    ],
)
def test_the_job_server_is_asked(
    status: int, body: str, state: str, told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    import ray

    with job_server(status, body.replace("SAME", ray.__version__)) as address:
        monkeypatch.setenv("RAY_API_SERVER_ADDRESS", address)
        (finding,) = ray_cluster.examine_job_server()
    assert finding.state == state and told in finding.todo


@pytest.mark.parametrize("address", ["http://planted:planted@127.0.0.1:1", "127.0.0.1:8265", "head:8265"])
def test_a_job_server_that_is_not_there_fails(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_API_SERVER_ADDRESS", address)
    (finding,) = ray_cluster.examine_job_server()
    assert finding.state == "fail" and finding.todo
    assert "planted" not in finding.line()
    monkeypatch.delenv("RAY_API_SERVER_ADDRESS")
    assert list(ray_cluster.examine_job_server()) == []
