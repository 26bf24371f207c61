"""Workers that make no step: what each of them is doing, and their end, so that Ray starts the group again.

Every worker says where it is (`Place`) and lets a signal write its stacks, from C, so that also a worker that hangs in a
collective answers. Who follows the workers, by a `Group`, asks by small Ray tasks on their hosts.
"""

from __future__ import annotations

import contextlib
import faulthandler
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from distmed.processes import began, stat

STACKS_SIGNAL = signal.SIGUSR2
ANSWER_S = 20.0
LIVES, GONE, ENDED = "lives", "gone", "ended"


@dataclass(frozen=True)
class Place:
    """Where one worker runs: address and Ray's id of its host, its process and when that `began`, and the open file that its
    stacks go to."""

    rank: int
    host: str
    node: str
    pid: int
    began: int
    stacks: int


def place_of(rank: int) -> Place:
    """The place of this process, whose stacks STACKS_SIGNAL writes from now on."""
    import ray

    # In memory, and gone with the process: no file is left anywhere.
    stacks = os.memfd_create(f"distmed-stacks-{rank}")
    faulthandler.register(STACKS_SIGNAL, file=stacks, all_threads=True)
    context = ray.get_runtime_context()
    pid = os.getpid()
    return Place(rank, ray.util.get_node_ip_address(), context.get_node_id(), pid, began(pid), stacks)


def stacks_of(place: Place) -> str:
    """The stacks of a process of this host: by its own handler, and by py-spy, which also sees native frames' callers."""
    parts = []
    try:
        os.kill(place.pid, STACKS_SIGNAL)
        time.sleep(1.0)
        parts.append(Path(f"/proc/{place.pid}/fd/{place.stacks}").read_text(errors="replace"))
    except OSError as error:
        parts.append(f"no answer: {error.strerror}")
    if py_spy := shutil.which("py-spy", path=f"{Path(sys.executable).parent}:{os.environ['PATH']}"):
        command = [py_spy, "dump", "--nonblocking", "--pid", str(place.pid)]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=ANSWER_S / 2)
            parts.append(done.stdout or f"py-spy: {done.stderr.strip()}")
        except subprocess.TimeoutExpired as error:
            parts.append(f"py-spy: no answer within {error.timeout:g} s")
    return "\n".join(parts)


def end(place: Place) -> str:
    """Kill a worker of this host; Ray then starts the whole group again. Process ids come again: another is left alone."""
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        if began(place.pid) == place.began:
            os.kill(place.pid, signal.SIGKILL)
            return ENDED
    return GONE


def lives(place: Place) -> str:
    """Whether a worker of this host still runs: LIVES or GONE. Called on its host."""
    try:
        state = stat(place.pid)[0]
    except OSError:
        return GONE
    return GONE if state == "Z" else LIVES


class Group:
    """The workers there are: `take` gets every event of their logbook, of which each is a sign of life, and `look`, called
    again and again, ends workers that gave none for `limit_s`. `say` is then told.
    """

    def __init__(self, limit_s: float, say: Callable[[str], None]) -> None:
        self.limit_s = limit_s
        self._say = say
        self.begin()

    def begin(self) -> None:
        """There are no workers."""
        self.places: dict[int, Place] = {}
        self._ending = False
        self._heard = time.monotonic()

    def take(self, event: dict[str, Any]) -> None:
        self._heard = time.monotonic()
        match event["kind"]:
            case "worker":
                self.places[event["place"].rank] = event["place"]
            case "attempt":
                self.places = {rank: place for rank, place in self.places.items() if rank < event["world"]}
            case "failed":
                self.begin()
            case "ending":
                self._ending = True

    def is_silent(self) -> bool:
        return time.monotonic() - self._heard > self.limit_s

    def look(self) -> None:
        if not self.places or self._ending or not self.is_silent():
            return
        places = [self.places[rank] for rank in sorted(self.places)]
        self._say(f"no step for {self.limit_s:g} s: the stacks of all workers go to the log, then they are ended")
        for rank, text in on_hosts(places, stacks_of).items():
            place = self.places[rank]
            print(
                f"--- stacks of rank {rank} on {place.host}, process {place.pid}\n{text}", file=sys.stderr, flush=True
            )
        for rank, answer in on_hosts(places, end).items():
            if answer != ENDED:
                self._say(f"rank {rank} on {self.places[rank].host} was not ended: {answer}")
        self._heard = time.monotonic()


def on_hosts(places: list[Place], do: Callable[[Place], str], within_s: float = ANSWER_S) -> dict[int, str]:
    """`do` on the host of each place, all at once; by rank what came back within `within_s`, or why nothing did."""
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    def on(place: Place) -> Any:
        there = NodeAffinitySchedulingStrategy(place.node, soft=False)
        return ray.remote(do).options(num_cpus=0, max_retries=0, scheduling_strategy=there).remote(place)

    asked = {place.rank: on(place) for place in places}
    if asked:
        ray.wait(list(asked.values()), num_returns=len(asked), timeout=within_s)
    answers = {}
    for rank, answer in asked.items():
        try:
            answers[rank] = ray.get(answer, timeout=0.1)
        except Exception as error:  # a host that does not answer is what we are here for
            answers[rank] = f"no answer: {type(error).__name__}"
    return answers
