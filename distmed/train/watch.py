"""What the driver does while workers train: it shows their news, and acts where they cannot.

Events of the logbook flow in. Workers that make no step are shown and ended; a run that may grow is told when there is
room, one whose host is to be taken away leaves it in time; one that has lost its hosts is given up when the recipe's time for
waiting is over.
"""

from __future__ import annotations

import time
from typing import Any

from distmed import session
from distmed.errors import one_of
from distmed.recipe import Cluster
from distmed.train.progress import Progress
from distmed.train.stall import Group

SAY_WAIT_AFTER_S = 10
LOOK_S = 5.0
# Until Ray has noticed that a host is gone, and after it has come back.
SETTLE_S = 30.0
# Workers that do not start, although there is room for them, are spoken of then.
SAY_NO_WORKER_S = 60.0
# A start takes longer than a step: libraries are read, maybe from a busy share. A short time for steps does not shorten this.
START_S = 300.0
# A run that ended to grow and came back no larger tries again then.
IN_VAIN_S = 300.0


class Watch:
    """One run, over all its attempts. `result` and `fatal` are what the workers said at their end; `failures` and `preemptions`
    count what `cluster.max_failures` and `cluster.max_preemptions` bound.
    """

    def __init__(self, cluster: Cluster, logbook: Any, progress: Progress) -> None:
        self.cluster = cluster
        self.logbook = logbook
        self.progress = progress
        self.result: dict[str, Any] | None = None
        self.fatal: dict[str, Any] | None = None
        self.error: BaseException | None = None
        self.restarts = self.failures = self.preemptions = 0
        self.group = Group(cluster.stall_timeout_s, progress.note)
        self.world = 0
        self._giving_up_since: float | None = None
        self._said_wait = False
        self._growth = 0
        self._leaving = False
        self._hoped, self._in_vain_until = 0, 0.0
        self.begin()

    def begin(self) -> None:
        """Workers are asked for."""
        now = time.monotonic()
        self.result, self.error = None, None
        self._attempt_began: float | None = now
        self.group.begin()
        self._looked = now
        self._hoped, self._growth = self._growth, 0
        self._alone(now)

    def _alone(self, now: float) -> None:
        """There are no workers."""
        if self._leaving:
            self._leaving = False
            self.logbook.ask_to_leave.remote(False)
        self._alone_since, self._said_alone = now, False
        self._too_few_since: float | None = None

    @property
    def waits(self) -> bool:
        """No worker is there that could finish a step."""
        return not self.group.places and self.result is None

    @property
    def goes_on(self) -> bool:
        """The workers ended so that there can be more of them, or others elsewhere."""
        return self.result is not None and (self.result["grows"] or (self._leaving and self.result["stopped"]))

    def take(self, event: dict[str, Any]) -> None:
        now = time.monotonic()
        self.group.take(event)
        match event["kind"]:
            case "attempt":
                if self._hoped > self.world >= event["world"]:
                    self.progress.note(f"there was no room for {self._hoped} workers: tried again in {IN_VAIN_S:g} s")
                    self._in_vain_until = now + IN_VAIN_S
                self._hoped, self.world = 0, event["world"]
            case "step":
                if self._attempt_began is not None:
                    self.progress.note(f"first step after {now - self._attempt_began:.0f} s")
                    self._attempt_began = None
                self.progress.step(event["step"], event["metrics"], shown=event["shown"])
            case "evaluation":
                self.progress.evaluation(event["step"], event["metrics"])
            case "saved":
                self.progress.saved(event["step"])
            case "note":
                self.progress.note(event["text"])
            case "failed":
                self.result = None
                self.preemptions += event["preempted"]
                self.failures += not event["preempted"]
                self._attempt_began = now
                self._alone(now)
                self.progress.note(event["cause"])
            case "restart":
                self.restarts = event["count"]
                self.progress.note(event["text"])
            case "fatal":
                self.fatal = self.fatal or event
                if event["reason"].startswith("memory"):
                    self._end_now()  # a step that came to no end, for which the others wait in vain
                elif event["reason"] == "user" and self._giving_up_since is None:
                    self._giving_up_since = now
            case "done":
                self.result = event["result"]
                if self._leaving and self.result["stopped"]:
                    self._count_leaving()

    def look(self) -> None:
        """Act where it is time to; called every quarter of a second."""
        now = time.monotonic()
        self.group.look()
        if now - self._looked > LOOK_S:
            self._looked = now
            self._consider_leaving()
            self._consider_growth()
            self._consider_giving_up(sum(session.places()))

    def overdue(self) -> bool:
        """A worker that met a mistake of the user has ended, but others may wait for it in a collective."""
        if self._giving_up_since is None:
            return False
        waited = time.monotonic() - self._giving_up_since
        if waited > SAY_WAIT_AFTER_S and not self._said_wait:
            self._said_wait = True
            self.progress.note(f"a worker gave up; the others have {self.cluster.stall_timeout_s:g} s to end")
        return waited > self.cluster.stall_timeout_s

    def _consider_leaving(self) -> None:
        """A host that is taken away with notice: the run saves, and goes on without it, before it is gone."""
        if self._leaving or not self.group.places:
            return
        draining = session.draining()
        hosts = sorted({place.host for place in self.group.places.values() if place.node in draining})
        if hosts:
            self._leaving = True
            self.progress.note(f"{one_of(hosts)} is to be taken away: this step is finished and saved, others go on")
            self.logbook.ask_to_leave.remote(True)

    def _count_leaving(self) -> None:
        self.preemptions += 1
        limit = self.cluster.max_preemptions
        if 0 <= limit < self.preemptions:
            times = "once" if self.preemptions == 1 else f"{self.preemptions} times"
            self.fatal = {
                "reason": "run",
                "message": f"hosts were taken away {times}, cluster.max_preemptions is {limit}; the last step is saved",
                "hint": "--resume when there are hosts that stay, or raise cluster.max_preemptions (-1: no limit)",
            }

    def _consider_growth(self) -> None:
        """More workers, at the next checkpoint, where nobody else holds the room for them."""
        if self.cluster.least == self.cluster.most or not self.world or not self.group.places:
            return
        if self._looked < self._in_vain_until:
            return
        could_be = min(self.world + session.free_places(), self.cluster.most)
        if could_be > self.world and could_be == self._growth:
            return
        if could_be > self.world:
            self.progress.note(f"room for {could_be} workers: the run goes on with them after the next checkpoint")
        if could_be > self.world or self._growth:
            self._growth = could_be if could_be > self.world else 0
            self.logbook.ask_to_grow.remote(bool(self._growth))

    def _consider_giving_up(self, room: int) -> None:
        """Ray would wait for hosts, and for workers that do not start, without end."""
        now = time.monotonic()
        if self.group.places or room >= self.cluster.least:
            self._too_few_since = None
            if not self.group.places:
                self._consider_absence(now - self._alone_since, room)
            return
        if self._too_few_since is None:
            self._too_few_since = now
            self.progress.note(
                f"room for {room} workers, {self.cluster.least} are needed: waits {self.cluster.wait_s:g} s"
            )
        if now - self._too_few_since > max(self.cluster.wait_s, SETTLE_S) and self.fatal is None:
            waited = f"for {now - self._too_few_since:.0f} s there was room for {room}"
            self._give_up(
                f"{self.cluster.least} workers are needed, {waited}",
                "--resume when there are hosts, raise cluster.wait_s, or let cluster.num_workers be a range",
            )

    def _consider_absence(self, alone_s: float, room: int) -> None:
        """There is room by what the hosts have, but others may hold it, or the workers die before they say a word."""
        if alone_s > SAY_NO_WORKER_S and not self._said_alone:
            self._said_alone = True
            self.progress.note(
                f"no worker for {alone_s:.0f} s: {min(room, session.free_places())} of {room} places are held by nobody"
            )
        limit_s = max(self.cluster.wait_s, self.cluster.stall_timeout_s, START_S)
        if alone_s > limit_s and self.fatal is None:
            self._give_up(
                f"no worker has started for {alone_s:.0f} s",
                "see who holds the cluster, and what Ray says in log.txt; then --resume",
            )

    def _give_up(self, message: str, hint: str) -> None:
        self.fatal = {"reason": "run", "message": message, "hint": hint}
        self._end_now()

    def _end_now(self) -> None:
        self._giving_up_since, self._said_wait = time.monotonic() - self.cluster.stall_timeout_s - 1, True
