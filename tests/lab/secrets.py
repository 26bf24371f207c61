"""Secrets that a user has in the environment: workers must have them, and nothing else may show them."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from pathlib import Path

from tests.lab.hosts import Host

PLANTED = {
    "WANDB_API_KEY": "planted-3141592653",
    "HF_TOKEN": "hf_planted2718281828",
    "AWS_SECRET_ACCESS_KEY": "planted/1618033988",
}


def reach_a_worker(hosts: Iterable[Host]) -> bool:
    """Whether a worker has all of them in its environment."""
    pids = [pid for host in hosts for pid, command in host.commands().items() if "RayTrainWorker" in command]
    environment = Path(f"/proc/{pids[0]}/environ").read_bytes()
    return all(f"{name}={secret}".encode() in environment for name, secret in PLANTED.items())


def shown_by_commands(hosts: Iterable[Host]) -> list[str]:
    """Command lines of processes that show one."""
    commands = [command for host in hosts for command in host.commands().values()]
    return [command for command in commands if any(secret in command for secret in PLANTED.values())]


def held_by_files(files: Iterable[Path]) -> list[Path]:
    """Files that hold one."""
    secrets = [secret.encode() for secret in PLANTED.values()]
    found = []
    for path in files:
        with contextlib.suppress(FileNotFoundError):  # of a Ray that is at work
            content = path.read_bytes()
            found += [path for secret in secrets if secret in content]
    return found
