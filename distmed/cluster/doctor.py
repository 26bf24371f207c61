"""`distmed doctor`: what this machine, or the cluster at RAY_ADDRESS, can do, and what is wrong with it.

Each check gives one line: ok, warn or fail, what was found, and what to do. Nothing is changed; files that are made to try the
storage are removed.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import os
import platform
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from distmed.errors import UserError, one_of

CLOCKS_S = 1.0
NAMES_S = 2.0
DISK_WARN = 50 * 2**30
SHM_WARN = 2 * 2**30
RAY_PORTS = {6379: "Ray's head", 8265: "Ray's dashboard"}


@dataclass(frozen=True)
class Finding:
    state: Literal["ok", "warn", "fail"]
    what: str
    found: str
    todo: str = ""

    def line(self) -> str:
        return f"{self.state:<4}  {self.what:<16}  {self.found}" + (f"  -> {self.todo}" if self.todo else "")


def examine(storage: str | None = None) -> Iterator[Finding]:
    """All checks, those of this machine first; `storage` is where checkpoints shall lie (None: this folder)."""
    for check in (_python, _packages, _gpus, _nccl, _interfaces, _names, _memory, _ports, _slurm):
        yield from _guarded(check)
    yield from _guarded(lambda: _disk(storage))
    yield from _guarded(lambda: _ray(storage))


def _guarded(check: Callable[[], Iterator[Finding]]) -> Iterator[Finding]:
    """A check that breaks is itself a finding; the others go on."""
    try:
        yield from check()
    except UserError as error:
        yield Finding("fail", "cluster", error.message, error.hint)
    except Exception as error:  # whatever is wrong with a machine shows here
        name = getattr(check, "__name__", "check").strip("_<>")
        yield Finding("fail", name, f"{type(error).__name__}: {' '.join(str(error).split())[:200]}", "see above")


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


def _gpus() -> Iterator[Finding]:
    import torch

    if not torch.cuda.is_available():
        there = shutil.which("nvidia-smi") is not None
        todo = "install a torch for this driver's CUDA" if there else ""
        yield Finding("warn" if there else "ok", "gpus", f"none that torch {torch.__version__} can use", todo)
        return
    for index in range(torch.cuda.device_count()):
        facts = torch.cuda.get_device_properties(index)
        free, total = torch.cuda.mem_get_info(index)
        busy = free < total * 0.9
        found = (
            f"{index}: {facts.name}, {total / 2**30:.0f} GiB, {free / 2**30:.0f} free, sm_{facts.major}{facts.minor}"
        )
        yield Finding("warn" if busy else "ok", "gpu", found, "somebody uses it: nvidia-smi" if busy else "")


def _nccl() -> Iterator[Finding]:
    import torch

    if torch.cuda.is_available():
        version = ".".join(str(part) for part in torch.cuda.nccl.version())
        chosen = {name: value for name, value in os.environ.items() if name.startswith("NCCL_")}
        yield Finding("ok", "nccl", f"{version}; {chosen or 'no NCCL_ variable set'}")
        devices = sorted(path.name for path in Path("/sys/class/infiniband").glob("*"))
        if devices:
            yield Finding("ok", "rdma", one_of(devices))


def _interfaces() -> Iterator[Finding]:
    import psutil

    up = {name for name, state in psutil.net_if_stats().items() if state.isup and name != "lo"}
    known = {
        name: [each.address for each in addresses if each.family == socket.AF_INET]
        for name, addresses in psutil.net_if_addrs().items()
        if name in up
    }
    listed = ", ".join(f"{name} {addresses[0]}" for name, addresses in sorted(known.items()) if addresses)
    if listed:
        yield Finding("ok", "interfaces", listed)
    else:
        yield Finding("warn", "interfaces", "none but lo has an address", "one host works; several need a network")
    for variable in ("NCCL_SOCKET_IFNAME", "GLOO_SOCKET_IFNAME", "DISTMED_INTERFACE"):
        wanted = os.environ.get(variable, "")
        found = _is_up(wanted, known) if variable == "NCCL_SOCKET_IFNAME" else set(wanted.split(",")) <= set(known)
        if wanted and not found:
            yield Finding(
                "fail", "interfaces", f"{variable}={wanted} is no interface that is up", f"use one of {listed}"
            )


def _is_up(wanted: str, known: Collection[str]) -> bool:
    """As NCCL reads it: prefixes with commas between, `=` for whole names, `^` for all but these."""
    names = [name for name in wanted.lstrip("^=").split(",") if name]
    named = [each for each in known if any(each == name if "=" in wanted else each.startswith(name) for name in names)]
    return len(named) < len(known) if wanted.startswith("^") else bool(named)


def _names() -> Iterator[Finding]:
    """gloo asks for the name behind an IPv4 address in IPv6 form, which /etc/hosts does not answer, at each of its starts."""
    from ray.util import get_node_ip_address

    address = get_node_ip_address()
    began = time.monotonic()
    with contextlib.suppress(OSError):
        socket.getnameinfo((f"::ffff:{address}", 0), 0)
    took = time.monotonic() - began
    late = took > NAMES_S
    todo = "let /etc/resolv.conf name a server that answers, or none: each start of the workers waits" if late else ""
    yield Finding("warn" if late else "ok", "names", f"asking who {address} is took {took:.1f} s", todo)


def _memory() -> Iterator[Finding]:
    import psutil

    memory = psutil.virtual_memory()
    yield Finding("ok", "memory", f"{memory.total / 2**30:.0f} GiB, {memory.available / 2**30:.0f} available")
    if Path("/dev/shm").is_dir():
        free = shutil.disk_usage("/dev/shm").free
        small = free < SHM_WARN
        todo = "start the container with --shm-size=16g" if small else ""
        yield Finding("warn" if small else "ok", "shared memory", f"{free / 2**30:.1f} GiB free in /dev/shm", todo)


def _ports() -> Iterator[Finding]:
    taken = []
    for port, what in RAY_PORTS.items():
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                taken.append(f"{port} ({what})")
    todo = "a cluster of yours, or of somebody else: give Ray another --port" if taken else ""
    yield Finding("warn" if taken else "ok", "ports", f"taken: {', '.join(taken)}" if taken else "free", todo)


def _slurm() -> Iterator[Finding]:
    if shutil.which("sinfo") is None:
        yield Finding("ok", "slurm", "not on this machine")
        return
    done = subprocess.run(["sinfo", "--noheader", "--format=%D %T"], capture_output=True, text=True, timeout=20)
    if done.returncode:
        reason = done.stderr.strip().splitlines()[-1:] or ["no answer"]
        yield Finding("warn", "slurm", f"installed, but sinfo says: {reason[0]}", "ask who runs it, or set SLURM_CONF")
    else:
        yield Finding("ok", "slurm", "nodes: " + ", ".join(done.stdout.split("\n")).strip(", "))


def _disk(storage: str | None) -> Iterator[Finding]:
    from distmed.checkpoint.storage import Storage

    where = Storage.at(storage or Path.cwd())
    if not where.is_local:
        return
    there = next(folder for folder in [Path(where.path), *Path(where.path).parents] if folder.exists())
    if not os.access(there, os.W_OK):
        yield Finding("fail", "disk", f"{there} cannot be written to", "start elsewhere, or mend its permissions")
        return
    free = shutil.disk_usage(there).free
    todo = "a 7 B model's checkpoint takes about 84 GiB" if free < DISK_WARN else ""
    yield Finding("warn" if free < DISK_WARN else "ok", "disk", f"{free / 2**30:.0f} GiB free in {there}", todo)


def _ray(storage: str | None) -> Iterator[Finding]:
    address = os.environ.get("RAY_ADDRESS")
    if not address:
        yield Finding("ok", "ray", "RAY_ADDRESS is not set: a run starts a Ray of its own on this machine")
        return
    import ray

    from distmed import session
    from distmed.checkpoint.storage import Storage
    from distmed.train.fit import check_shared, check_versions, on_every_host, versions

    with session.connected():
        resources = ray.cluster_resources()
        hosts = sorted(node["NodeManagerAddress"] for node in ray.nodes() if node["Alive"])
        found = f"{len(hosts)} hosts, {resources.get('CPU', 0):g} CPUs, {resources.get('GPU', 0):g} GPUs at {address}"
        yield Finding("ok", "ray", found)
        dead = sorted({node["NodeManagerAddress"] for node in ray.nodes() if not node["Alive"]} - set(hosts))
        if dead:
            yield Finding("warn", "ray", f"hosts that died: {one_of(dead)}", "they are not used; look at their logs")
        token = os.environ.get("RAY_AUTH_MODE") == "token" or "RAY_AUTH_TOKEN" in os.environ
        if not token:
            yield Finding("warn", "token", "RAY_AUTH_MODE is not token", "anybody who reaches the ports can run code")
        check_versions(on_every_host(versions))
        yield Finding("ok", "same versions", f"on all {len(hosts)} hosts")
        yield _clocks()
        check_shared(Storage.at(storage or Path.cwd()), "the storage")
        yield Finding("ok", "shared storage", f"{storage or Path.cwd()} is read by all {len(hosts)} hosts")


def _clocks() -> Finding:
    """Hosts answer one after the other; what they differ by beyond the time that the question took is skew."""
    from distmed.train.fit import on_every_host

    asked = time.time()
    answers = on_every_host(time.time)
    took = time.time() - asked
    skew = {host: max(asked - clock, clock - asked - took, 0.0) for host, clock in answers.items()}
    worst = max(skew, key=lambda host: skew[host])
    if skew[worst] > CLOCKS_S:
        return Finding("warn", "clocks", f"{worst} is off by {skew[worst]:.1f} s", "start chrony or ntpd there")
    return Finding("ok", "clocks", f"within {CLOCKS_S:g} s")
