"""One driver at a time trains a run, and a lock that a dead one left is recognized."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from distmed.errors import UserError
from distmed.train.lock import STALE_S, RunLock


def left_by(path: Path, **owner: object) -> None:
    path.write_text(json.dumps({"host": "n7", "pid": 1, "began": 0.0, "user": "ada", "token": "x", **owner}))


def test_a_second_driver_is_refused_and_told_who_holds_the_run(tmp_path: Path) -> None:
    with (
        RunLock(tmp_path / "lock", "a"),
        pytest.raises(UserError, match=f"run a is being trained by process {os.getpid()}"),
    ):
        RunLock(tmp_path / "lock", "a").__enter__()
    assert not list(tmp_path.iterdir())


def test_the_lock_of_a_process_that_died_here_is_taken_over(tmp_path: Path) -> None:
    path = str(tmp_path / "lock")
    code = f"""
import os
from pathlib import Path
from distmed.train.lock import RunLock
RunLock(Path({path!r}), "a").__enter__()
os._exit(1)
"""
    dead = subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parents[2])
    assert dead.returncode == 1 and (tmp_path / "lock").exists()
    with RunLock(tmp_path / "lock", "a") as lock:
        assert lock.note and "died: its lock is taken over" in lock.note
        assert json.loads((tmp_path / "lock").read_text())["pid"] == os.getpid()
    assert not list(tmp_path.iterdir())


def test_the_process_number_of_a_dead_owner_may_be_another_process_now(tmp_path: Path) -> None:
    import socket

    owner = {"host": socket.gethostname(), "boot": Path("/proc/sys/kernel/random/boot_id").read_text().strip()}
    left_by(tmp_path / "lock", **owner, pid=os.getpid(), began=1)
    with RunLock(tmp_path / "lock", "a") as lock:
        assert lock.note


def test_a_clock_that_is_set_makes_no_owner_dead(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """psutil counts from when the host began by its clock."""
    with RunLock(tmp_path / "lock", "a"):
        monkeypatch.setattr("psutil.Process.create_time", lambda process: 0.0)
        with pytest.raises(UserError, match="is being trained by"):
            RunLock(tmp_path / "lock", "a").__enter__()


def test_an_owner_on_another_host_lives_as_long_as_it_renews(tmp_path: Path) -> None:
    left_by(tmp_path / "lock")
    with pytest.raises(UserError, match="by process 1 of ada on n7"):
        RunLock(tmp_path / "lock", "a").__enter__()
    long_ago = time.time() - STALE_S - 5
    os.utime(tmp_path / "lock", (long_ago, long_ago))
    with RunLock(tmp_path / "lock", "a") as lock:
        assert lock.note and "process 1 on n7" in lock.note


def test_a_lock_that_another_took_over_is_left_to_it(tmp_path: Path) -> None:
    with RunLock(tmp_path / "lock", "a"):
        left_by(tmp_path / "lock", token="theirs")
    assert json.loads((tmp_path / "lock").read_text())["token"] == "theirs"


def test_a_driver_that_was_paused_notices_that_its_lock_is_another_s(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("distmed.train.lock.RENEW_S", 0.05)
    path = tmp_path / "lock"
    with RunLock(path, "a") as lock:
        time.sleep(0.2)
        assert not lock.lost
        left_by(path)
        renewed = path.stat().st_mtime_ns
        time.sleep(0.2)
        assert lock.lost and path.stat().st_mtime_ns == renewed, "the other's lock is not kept fresh by this one"
        assert "by process 1 of ada on n7" in lock.taken().message
    assert path.exists()
