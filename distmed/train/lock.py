"""The lock of a run directory: one driver at a time, on whatever host. A file names its owner; a lock left by a dead owner is
recognized and taken over.

On the owner's host, until that is started anew, a process tells whether it lives; elsewhere the file's age does, which the
owner renews. Ages are measured by the file system's own clock, so that hosts whose clocks differ agree.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import socket
import threading
from pathlib import Path
from types import TracebackType
from typing import Any

import psutil

from distmed.errors import UserError
from distmed.processes import began

RENEW_S = 10.0
STALE_S = 60.0


class RunLock:
    """Held while the block lasts. Raises UserError where another driver holds it; `note` says if a stale one was found.

    `lost` becomes true where another driver took it over, to whom this one seemed dead: it was paused, or cut off.
    """

    def __init__(self, path: Path, run: str) -> None:
        self.path = path
        self.run = run
        self.note: str | None = None
        self.lost = False
        self._mine = secrets.token_hex(8)
        self._ended = threading.Event()

    def __enter__(self) -> RunLock:
        while not self._make():
            self._take_from_the_dead()
        self._renewer = threading.Thread(target=self._renew, name="run-lock", daemon=True)
        self._renewer.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        self._renewer.join()
        if self.is_mine():
            self.path.unlink(missing_ok=True)

    def _make(self) -> bool:
        process = psutil.Process()
        owner = {
            "host": socket.gethostname(),
            "boot": _boot(),
            "pid": process.pid,
            "began": began(process.pid),
            "user": process.username(),
            "token": self._mine,
        }
        try:
            with self.path.open("x", encoding="utf-8") as file:
                json.dump(owner, file)
        except FileExistsError:
            return False
        return True

    def _take_from_the_dead(self) -> None:
        owner = read_owner(self.path)
        if is_alive(owner, self.path):
            raise held(self.run, owner)
        aside = self.path.with_name(f"{self.path.name}.{self._mine}")
        with contextlib.suppress(FileNotFoundError):
            self.path.rename(aside)
            taken = read_owner(aside)
            if taken != owner:
                # Somebody was quicker: what was moved aside is a lock that is held.
                aside.rename(self.path)
                raise held(self.run, taken)
            aside.unlink()
            dead = f"process {owner.get('pid')} on {owner.get('host')}"
            self.note = f"the run's last driver, {dead}, died: its lock is taken over"

    def _renew(self) -> None:
        while not self._ended.wait(RENEW_S):
            if read_owner(self.path).get("token", self._mine) != self._mine:
                self.lost = True
                return
            with contextlib.suppress(OSError):
                os.utime(self.path)

    def is_mine(self) -> bool:
        """Whether the file says so now."""
        return bool(read_owner(self.path).get("token") == self._mine)

    def taken(self) -> UserError:
        """What to say where it is `lost`."""
        return held(self.run, read_owner(self.path))


def held(run: str, owner: dict[str, Any]) -> UserError:
    return UserError(
        f"run {run} is being trained by process {owner.get('pid')} of {owner.get('user')} on {owner.get('host')}",
        "wait for it, stop it, or give another --name",
    )


def read_owner(path: Path) -> dict[str, Any]:
    """What the lock says of its owner; empty where there is none, or where it is just being written."""
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError):
        return {}


def is_alive(owner: dict[str, Any], path: Path) -> bool:
    """Whether the owner of the lock at `path` still runs."""
    if (owner.get("host"), owner.get("boot")) != (socket.gethostname(), _boot()):
        return _age_s(path) < STALE_S
    try:
        # Process ids come again, and hosts that share them (containers) may share a name.
        return began(owner["pid"]) == owner["began"]
    except OSError:
        return False


def _boot() -> str:
    """Of this host: what a process began by is counted from it."""
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def _age_s(path: Path) -> float:
    """By the clock of the file system: against a file made now."""
    now = path.with_name(f"{path.name}.{secrets.token_hex(4)}.now")
    try:
        now.touch()
        return now.stat().st_mtime - path.stat().st_mtime
    except FileNotFoundError:
        return 0.0
    finally:
        now.unlink(missing_ok=True)
