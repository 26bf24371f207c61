"""What `distmed doctor` looks at on each host by itself: GPUs, NCCL, RDMA, interfaces, names, memory, disks.

A place for runs flows in, findings flow out. It runs where it is called: here, or as a task on a host of a Ray cluster.
"""

from __future__ import annotations

import contextlib
import os
import resource
import shutil
import socket
import time
from collections.abc import Collection, Iterator
from pathlib import Path

from distmed.cluster.finding import Finding, guarded
from distmed.errors import one_of

NAMES_S = 2.0
DISK_WARN = 50 * 2**30
SHM_WARN = 2 * 2**30
TEMP_WARN = 10 * 2**30
# Past 95 % Ray writes nothing more to its disk.
TEMP_FULL = 0.05
RDMA = Path("/sys/class/infiniband")
CAP_IPC_LOCK = 14


def examine_host(storage: str) -> list[Finding]:
    """All of them, of the host this runs on; `storage` is where runs go."""
    checks = {
        "gpus": _gpus,
        "nccl": _nccl,
        "rdma": _rdma,
        "interfaces": _interfaces,
        "names": _names,
        "memory": _memory,
        "disk": lambda: _disk(storage),
        "ray's disk": _rays_disk,
    }
    return [finding for what, check in checks.items() for finding in guarded(what, check)]


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
        found = f"{index}: {facts.name}, {total / 2**30:.0f} GiB, sm_{facts.major}{facts.minor}"
        todo = "somebody uses it: nvidia-smi" if busy else ""
        yield Finding("warn" if busy else "ok", "gpu", found, todo, f"{free / 2**30:.0f} GiB free")


def _nccl() -> Iterator[Finding]:
    import torch

    if torch.cuda.is_available():
        version = ".".join(str(part) for part in torch.cuda.nccl.version())
        chosen = {name: value for name, value in sorted(os.environ.items()) if name.startswith("NCCL_")}
        yield Finding("ok", "nccl", f"{version}; {chosen or 'no NCCL_ variable set'}")


def _rdma() -> Iterator[Finding]:
    devices = sorted(path.name for path in RDMA.glob("*"))
    if not devices:
        return
    yield Finding("ok", "rdma", one_of(devices))
    for path in sorted(RDMA.glob("*/ports/*/state")):
        state = path.read_text().strip()
        if not state.endswith(" ACTIVE"):
            found = f"{path.parents[2].name} port {path.parent.name} is {state}"
            todo = "its cable, switch or subnet manager (ibstat); or leave it out with NCCL_IB_HCA"
            yield Finding("warn", "rdma", found, todo)
    limit = resource.getrlimit(resource.RLIMIT_MEMLOCK)[0]
    if limit != resource.RLIM_INFINITY and not _may_lock_memory():
        found = f"a process may lock {limit // 1024} KiB (ulimit -l): NCCL registers more for RDMA"
        yield Finding("warn", "locked memory", found, "ulimit -l unlimited where Ray is started; --ulimit=memlock=-1")


def _may_lock_memory() -> bool:
    """Whether this process has CAP_IPC_LOCK, to which the limit does not apply."""
    status = Path("/proc/self/status").read_text()
    granted = next(line.split()[1] for line in status.splitlines() if line.startswith("CapEff:"))
    return bool(int(granted, 16) >> CAP_IPC_LOCK & 1)


def _interfaces() -> Iterator[Finding]:
    import psutil

    up = {name for name, state in psutil.net_if_stats().items() if state.isup and name != "lo"}
    known = {
        name: [each.address for each in addresses if each.family == socket.AF_INET]
        for name, addresses in psutil.net_if_addrs().items()
        if name in up
    }
    usable = {name: addresses[0] for name, addresses in sorted(known.items()) if addresses}
    if usable:
        yield Finding("ok", "interfaces", ", ".join(usable), now=", ".join(usable.values()))
    else:
        yield Finding("warn", "interfaces", "none but lo has an address", "one host works; several need a network")
    for variable in ("NCCL_SOCKET_IFNAME", "GLOO_SOCKET_IFNAME", "DISTMED_INTERFACE"):
        wanted = os.environ.get(variable, "")
        found = _is_up(wanted, known) if variable == "NCCL_SOCKET_IFNAME" else set(wanted.split(",")) <= set(known)
        if wanted and not found:
            todo = f"use one of {', '.join(usable)}"
            yield Finding("fail", "interfaces", f"{variable}={wanted} is no interface that is up", todo)


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
    now = f"asking who {address} is took {took:.1f} s"
    if took > NAMES_S:
        todo = "let /etc/resolv.conf name a server that answers, or none: each start of the workers waits"
        yield Finding("warn", "names", "the name server is slow", todo, now)
    else:
        yield Finding("ok", "names", "answered", now=now)


def _memory() -> Iterator[Finding]:
    import psutil

    memory = psutil.virtual_memory()
    yield Finding("ok", "memory", f"{memory.total / 2**30:.0f} GiB", now=f"{memory.available / 2**30:.0f} available")
    if Path("/dev/shm").is_dir():
        todo = "start the container with --shm-size=16g"
        yield _room("shared memory", Path("/dev/shm"), SHM_WARN, todo)


def _disk(storage: str) -> Iterator[Finding]:
    from distmed.checkpoint.storage import Storage

    where = Storage.at(storage)
    if not where.is_local:
        return
    there = next(folder for folder in [Path(where.path), *Path(where.path).parents] if folder.exists())
    if not os.access(there, os.W_OK):
        yield Finding("fail", "disk", f"{there} cannot be written to", "start elsewhere, or mend its permissions")
        return
    yield _room("disk", there, DISK_WARN, "a 7 B model's checkpoint takes about 84 GB")


def _rays_disk() -> Iterator[Finding]:
    """Where Ray keeps its sessions, and what does not fit into its shared memory; the folder need not be there yet."""
    from ray._common.utils import get_default_ray_temp_dir
    from ray._private import worker

    node = worker._global_node
    folder = Path(node.get_temp_dir_path() if node else get_default_ray_temp_dir())
    there = next(each for each in [folder, *folder.parents] if each.exists())
    least = max(TEMP_WARN, int(shutil.disk_usage(there).total * TEMP_FULL))
    yield _room("ray's disk", there, least, "free some, or start Ray with --temp-dir on a larger disk (RAY_TMPDIR)")


def _room(what: str, there: Path, least: int, todo: str) -> Finding:
    free = shutil.disk_usage(there).free
    now = f"{free / 2**30:.1f} GiB free"
    if free < least:
        return Finding("warn", what, f"less than {least / 2**30:.0f} GiB free in {there}", todo, now)
    return Finding("ok", what, str(there), now=now)
