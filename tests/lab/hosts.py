"""Hosts on one machine: network namespaces joined by a bridge. Each has its own address, host name, ports and firewall of
links; file systems and process ids are shared. Cutting a link is a network partition.

Names of hosts flow in, `Host` objects flow out; `Lab.close` ends what runs inside by process id and takes the namespaces away.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

ROOT = Path(__file__).parents[2]
BRIDGE = "distlab0"
NETWORK = "10.77.0"
OUTSIDE = f"{NETWORK}.1"
LOCK = Path("/tmp/distmed-lab.lock")


def run(*command: str | Path, check: bool = True, **options: Any) -> subprocess.CompletedProcess[str]:
    """A short command to its end; its output where it fails."""
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, **options)
    if check and done.returncode:
        raise AssertionError(f"{' '.join(str(word) for word in command)}: {done.stdout}{done.stderr}")
    return done


def wait_until(what: str, seconds: float, holds: Callable[[], Any], every: float = 0.2) -> Any:
    """The first true answer of `holds`; fails after `seconds`, saying what it waited for."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if answer := holds():
            return answer
        time.sleep(every)
    raise AssertionError(f"not within {seconds:g} s: {what}")


def environment() -> dict[str, str]:
    """That of a user on such a host: our `ray` and `distmed` first in the path, one thread a worker, no network."""
    bin_folder = Path(sys.executable).parent
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("RAY_", "SLURM_"))}
    return {
        **kept,
        "PATH": f"{bin_folder}:{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
        "OMP_NUM_THREADS": "1",
        "GLOO_SOCKET_IFNAME": "eth0",
        "WANDB_MODE": "disabled",
        "HF_HUB_OFFLINE": "1",
        "COLUMNS": "200",
        "RAY_USAGE_STATS_ENABLED": "0",
        # Ray's workers give way to whatever else this machine does, without which they make no step for minutes.
        "RAY_worker_niceness": "0",
        "RAY_NUM_REDIS_GET_RETRIES": "100",
    }


@dataclass(frozen=True)
class Host:
    """One namespace. `enter` is what to put before a command to run it there."""

    name: str
    address: str
    link: str

    @property
    def enter(self) -> list[str]:
        # A host name of its own beside the network: what a lock or a report calls a host.
        script = f'hostname {self.name}; exec "$@"'
        return ["ip", "netns", "exec", self.name, "unshare", "--uts", "sh", "-c", script, "host"]

    def start(self, *command: str | Path, log: IO[str] | None = None, **options: Any) -> subprocess.Popen[str]:
        options.setdefault("env", environment())
        return subprocess.Popen(
            [*self.enter, *(str(word) for word in command)],
            stdin=subprocess.DEVNULL,
            stdout=log or subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
            **options,
        )

    def run(self, *command: str | Path, **options: Any) -> subprocess.CompletedProcess[str]:
        options.setdefault("env", environment())
        return run(*self.enter, *command, **options)

    def pids(self) -> list[int]:
        return [int(pid) for pid in run("ip", "netns", "pids", self.name, check=False).stdout.split()]

    def commands(self) -> dict[int, str]:
        """What runs there now, by process id."""
        found = {}
        for pid in self.pids():
            with contextlib.suppress(OSError):
                line = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
                if line:
                    found[pid] = line
        return found

    def kill(self, *, naming: str = "", number: int = signal.SIGKILL) -> list[int]:
        """Signal every process of this host whose command has `naming` in it."""
        gone = [pid for pid, command in self.commands().items() if naming in command]
        for pid in gone:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)
        return gone

    def cut(self) -> None:
        """No packet in or out, as if the cable were pulled."""
        run("ip", "link", "set", self.link, "down")

    def mend(self) -> None:
        run("ip", "link", "set", self.link, "up")


@dataclass
class Lab:
    """Hosts n1, n2, … and the folder that all of them see."""

    folder: Path
    hosts: list[Host] = field(default_factory=list)

    @classmethod
    @contextlib.contextmanager
    def of(cls, folder: Path, count: int) -> Iterator[Lab]:
        """`count` hosts; one lab a machine at a time, and what a killed one left is taken away first."""
        with LOCK.open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            lab = cls(folder, [Host(f"n{i}", f"{NETWORK}.1{i}", f"distlab-n{i}") for i in range(1, count + 1)])
            remove_all()
            try:
                lab.build()
                yield lab
            finally:
                remove_all()

    def build(self) -> None:
        run("ip", "link", "add", BRIDGE, "type", "bridge")
        run("ip", "address", "add", f"{OUTSIDE}/24", "dev", BRIDGE)
        run("ip", "link", "set", BRIDGE, "up")
        names = "".join(f"{host.address} {host.name}\n" for host in self.hosts)
        for host in self.hosts:
            etc = Path("/etc/netns") / host.name
            etc.mkdir(parents=True, exist_ok=True)
            (etc / "hosts").write_text(f"127.0.0.1 localhost\n{OUTSIDE} {os.uname().nodename}\n{names}")
            # No name server, rather than one out of reach: gloo asks for the names of IPv4 addresses mapped to IPv6, which
            # `hosts` does not answer, and would wait for 10 s at each start.
            (etc / "resolv.conf").write_text("")
            inside = ["ip", "-n", host.name]
            run("ip", "netns", "add", host.name)
            run("ip", "link", "add", host.link, "type", "veth", "peer", "name", "eth0", "netns", host.name)
            run("ip", "link", "set", host.link, "master", BRIDGE, "up")
            run(*inside, "address", "add", f"{host.address}/24", "dev", "eth0")
            run(*inside, "link", "set", "eth0", "up")
            run(*inside, "link", "set", "lo", "up")
            run(*inside, "route", "add", "default", "via", OUTSIDE)

    def __getitem__(self, index: int) -> Host:
        return self.hosts[index]


def remove_all() -> None:
    """End every process in namespaces of a lab, then remove these and the bridge."""
    listed = run("ip", "-o", "link", "show", check=False).stdout
    for name in run("ip", "netns", "list", check=False).stdout.split("\n"):
        word = name.split(" ")[0]
        if not word or not (Path("/etc/netns") / word / "hosts").exists() or f"distlab-{word}@" not in listed:
            continue
        for _ in range(20):
            if not Host(word, "", "").kill():
                break
            time.sleep(0.1)
        run("ip", "link", "del", f"distlab-{word}", check=False)
        run("ip", "netns", "del", word, check=False)
        shutil.rmtree(Path("/etc/netns") / word, ignore_errors=True)
    run("ip", "link", "del", BRIDGE, check=False)


def why_not() -> str | None:
    """Why no lab can be built here, None where it can."""
    if os.geteuid() != 0:
        return "the lab makes network namespaces, which only root may"
    if shutil.which("ip") is None:
        return "the lab needs `ip` (Debian: apt-get install iproute2)"
    tried = run("unshare", "--net", "--uts", "true", check=False)
    if tried.returncode:
        return f"this kernel makes no network namespaces: {tried.stderr.strip()}"
    return None
