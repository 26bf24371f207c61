"""`distmed doctor`: what this machine, or the cluster at RAY_ADDRESS, can do, and what is wrong with it.

Each check gives one line: ok, warn or fail, what was found, and what to do. Nothing is changed; files that are made to try the
storage are removed.
"""

from __future__ import annotations

import importlib.metadata
import os
import platform
import shutil
import socket
import subprocess
from collections.abc import Iterator

from distmed.cluster import ray_cluster
from distmed.cluster.finding import Finding, guarded
from distmed.cluster.host import examine_host
from distmed.errors import one_of

RAY_PORTS = {6379: "Ray's head", 8265: "Ray's dashboard"}
# What sinfo calls nodes that run jobs, or will: the others are down, drained, reserved or unknown.
USABLE = {"idle", "mixed", "allocated", "completing", "planned"}


def examine(storage: str | None = None) -> Iterator[Finding]:
    """All checks, those of this machine first; `storage` is where checkpoints shall lie (None: where runs go)."""
    from distmed.train.driver import run_folder

    storage = storage or str(run_folder(".").path)
    yield from guarded("python", _python)
    yield from guarded("versions", _packages)
    yield from examine_host(storage)
    yield from guarded("ports", _ports)
    yield from guarded("slurm", _slurm)
    yield from guarded("job server", ray_cluster.examine_job_server)
    yield from guarded("ray", lambda: ray_cluster.examine_cluster(storage))


def _python() -> Iterator[Finding]:
    yield Finding("ok", "host", f"{socket.gethostname()}, {os.cpu_count()} CPUs, {platform.platform()}")
    yield Finding("ok", "python", platform.python_version())


def _packages() -> Iterator[Finding]:
    from packaging.requirements import Requirement

    wrong, known = [], []
    for text in importlib.metadata.requires("distmed") or []:
        requirement = Requirement(text)
        if requirement.marker is not None and not requirement.marker.evaluate({"extra": ""}):
            continue
        try:
            version = importlib.metadata.version(requirement.name)
        except importlib.metadata.PackageNotFoundError:
            wrong.append(f"{requirement.name} is missing")
            continue
        if not requirement.specifier.contains(version, prereleases=True):
            wrong.append(f"{requirement.name} {version} is not {requirement.specifier}")
        if requirement.name in ("torch", "deepspeed", "ray", "transformers"):
            known.append(f"{requirement.name} {version}")
    yield Finding("ok", "versions", ", ".join(known))
    if wrong:
        yield Finding("fail", "versions", one_of(wrong), "pip install --constraint constraints.txt distmed")


def _ports() -> Iterator[Finding]:
    here = _own_addresses()
    address = os.environ.get("RAY_ADDRESS", "")
    if _is_here(address, here):
        yield Finding("ok", "ports", f"held by the cluster at {address}")
        return
    taken = [f"{port} ({what})" for port, what in RAY_PORTS.items() if any(_listens(each, port) for each in here)]
    todo = "a cluster of yours, or of somebody else: give Ray another --port" if taken else ""
    yield Finding("warn" if taken else "ok", "ports", f"taken: {', '.join(taken)}" if taken else "free", todo)


def _own_addresses() -> list[str]:
    """A server need not listen on lo: Ray's dashboard is bound to the address that `ray start` is told."""
    import psutil

    families = (each for addresses in psutil.net_if_addrs().values() for each in addresses)
    return sorted({"127.0.0.1", *(each.address for each in families if each.family == socket.AF_INET)})


def _is_here(address: str, here: list[str]) -> bool:
    """Whether the RAY_ADDRESS names a head on this machine; `auto` does, by what Ray means with it."""
    host = address.rpartition("/")[2].rpartition(":")[0]
    try:
        return address == "auto" or (host != "" and socket.gethostbyname(host) in here)
    except OSError:
        return False


def _listens(host: str, port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(1.0)
        return probe.connect_ex((host, port)) == 0


def _slurm() -> Iterator[Finding]:
    if shutil.which("sinfo") is None:
        yield Finding("ok", "slurm", "not on this machine")
        return
    done = subprocess.run(["sinfo", "--noheader", "--format=%D %T"], capture_output=True, text=True, timeout=20)
    if done.returncode:
        reason = done.stderr.strip().splitlines()[-1:] or ["no answer"]
        yield Finding("warn", "slurm", f"installed, but sinfo says: {reason[0]}", "ask who runs it, or set SLURM_CONF")
        return
    groups = [line.strip() for line in done.stdout.splitlines() if line.strip()]
    # A state may end in a flag, as in `idle~` for one that is powered off; `*` is a node that does not answer.
    states = {group.split()[-1].rstrip("~#%$@^!-+") for group in groups}
    found = f"nodes: {', '.join(groups) or 'none'}"
    if states & USABLE:
        yield Finding("ok", "slurm", found)
    else:
        yield Finding("warn", "slurm", found, "no job can start: `sinfo -R` says why; ask who runs it")
