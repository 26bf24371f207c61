"""What `distmed doctor` asks a Ray cluster: the one at RAY_ADDRESS, its hosts, and the server that jobs are submitted to.

Addresses flow in by the environment, findings flow out. Each host is asked by a task of its own; nothing is left there.
"""

from __future__ import annotations

import json
import os
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from http.client import HTTPException
from urllib.parse import urlsplit

from distmed.cluster.finding import Finding, grouped, guarded
from distmed.cluster.host import examine_host
from distmed.credentials import without_credentials
from distmed.errors import one_of

CLOCKS_S = 1.0
CLOCK_ROUNDS = 4
ANSWER_S = 10.0


def examine_cluster(storage: str) -> Iterator[Finding]:
    """The cluster at RAY_ADDRESS, if that is set; `storage` is where runs go. A line that breaks does not end the others."""
    from distmed import session

    address = os.environ.get("RAY_ADDRESS")
    if not address:
        yield Finding("ok", "ray", "RAY_ADDRESS is not set: a run starts a Ray of its own on this machine")
        return
    with session.connected():
        checks = {
            "ray": lambda: _nodes(address),
            "token": _token,
            "same versions": _versions,
            "clocks": _clocks,
            "shared storage": lambda: _shared(storage),
            "hosts": lambda: _hosts(storage),
        }
        for what, check in checks.items():
            yield from guarded(what, check)


def _nodes(address: str) -> Iterator[Finding]:
    import ray

    resources = ray.cluster_resources()
    hosts = {node["NodeManagerAddress"] for node in ray.nodes() if node["Alive"]}
    found = f"{len(hosts)} hosts, {resources.get('CPU', 0):g} CPUs, {resources.get('GPU', 0):g} GPUs at {address}"
    yield Finding("ok", "ray", found)
    dead = sorted({node["NodeManagerAddress"] for node in ray.nodes() if not node["Alive"]} - hosts)
    if dead:
        yield Finding("warn", "ray", f"hosts that died: {one_of(dead)}", "they are not used; look at their logs")


def _token() -> Iterator[Finding]:
    """What this shell sets says nothing of what a cluster asks for: its hosts know how they were started."""
    from distmed.train.fit import on_every_host

    asks = on_every_host(_asks_for_token)
    lax = sorted(host for host, asked in asks.items() if not asked)
    if lax:
        todo = (
            "anybody who reaches the ports can run code: RAY_AUTH_MODE=token where Ray is started, not the token alone"
        )
        yield Finding("warn", "token", f"not asked for by {one_of(lax)}", todo)
    else:
        yield Finding("ok", "token", f"asked for by all {len(asks)} hosts")


def _asks_for_token() -> bool:
    from ray._private.authentication.authentication_utils import is_token_auth_enabled

    return bool(is_token_auth_enabled())


def _versions() -> Iterator[Finding]:
    from distmed.train.fit import check_versions, on_every_host, versions

    by_host = on_every_host(versions)
    check_versions(by_host)
    yield Finding("ok", "same versions", f"on all {len(by_host)} hosts")


def _clocks() -> Iterator[Finding]:
    """What a host's clock is off by beyond the time that the question took is skew.

    The first question also starts processes, so that it takes long and hides much: of several the one that shows most counts.
    """
    from distmed.train.fit import on_every_host

    skew: dict[str, float] = {}
    shortest = float("inf")
    for _ in range(CLOCK_ROUNDS):
        asked = time.time()
        answers = on_every_host(_clock)
        took = time.time() - asked
        shortest = min(shortest, took)
        for host, clock in answers.items():
            skew[host] = max(skew.get(host, 0.0), asked - clock, clock - asked - took)
    off = sorted((host for host in skew if skew[host] > CLOCKS_S), key=lambda host: -skew[host])
    if off:
        found = one_of([f"{host} is off by {skew[host]:.1f} s" for host in off])
        yield Finding("warn", "clocks", found, "start chrony or ntpd there")
    else:
        yield Finding("ok", "clocks", f"within {CLOCKS_S + shortest:.1f} s")


def _clock() -> float:
    """Ray makes no task of a function that is not written in Python."""
    return time.time()


def _shared(storage: str) -> Iterator[Finding]:
    import ray

    from distmed.checkpoint.storage import Storage
    from distmed.train.fit import check_shared

    check_shared(Storage.at(storage), "the storage")
    hosts = sum(node["Alive"] for node in ray.nodes())
    yield Finding("ok", "shared storage", f"{without_credentials(storage)} is read and written by all {hosts} hosts")


def _hosts(storage: str) -> Iterator[Finding]:
    """What was looked at here, on every host; a cluster of one host is this machine."""
    from distmed.train.fit import on_every_host

    by_host = on_every_host(lambda: examine_host(storage))
    if len(by_host) > 1:
        yield from grouped(by_host)


def examine_job_server() -> Iterator[Finding]:
    """What RAY_API_SERVER_ADDRESS names, which launch/submit.sh and `ray job submit` speak to, if it is set."""
    import ray
    from ray._private.authentication.http_token_authentication import get_auth_headers_if_auth_enabled

    address = os.environ.get("RAY_API_SERVER_ADDRESS")
    if not address:
        return
    named = f"RAY_API_SERVER_ADDRESS={without_credentials(address)}"
    if urlsplit(address).scheme not in ("http", "https"):
        yield Finding("fail", "job server", f"{named} is no URL", "name the dashboard as in http://head:8265")
        return
    request = urllib.request.Request(f"{address.rstrip('/')}/api/version", headers=get_auth_headers_if_auth_enabled({}))
    try:
        with urllib.request.urlopen(request, timeout=ANSWER_S) as answer:
            version = json.load(answer)["ray_version"]
    except urllib.error.HTTPError as error:
        todo = "name the dashboard; or export RAY_AUTH_MODE=token and the cluster's RAY_AUTH_TOKEN"
        yield Finding("fail", "job server", f"{named} answers {error.code} {error.reason}", todo)
    except (OSError, HTTPException, ValueError, KeyError) as error:
        todo = "start the cluster with a --dashboard-host that can be reached from here, or mend the address"
        yield Finding("fail", "job server", f"no Ray dashboard answers at {named} ({type(error).__name__})", todo)
    else:
        same = version == ray.__version__
        todo = "" if same else f"install ray {version} here: this one is {ray.__version__}"
        yield Finding("ok" if same else "warn", "job server", f"Ray {version} at {named}", todo)
