"""Whether trials that run can still have workers: Ray would wait for hosts, and for those who hold them, without end.

What the trials' logbooks say and what hosts there are flow in; the search is given up when the time for waiting is over.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from distmed import session
from distmed.train.watch import LOOK_S, SETTLE_S, START_S

if TYPE_CHECKING:
    from distmed.tune.search import Search

ANSWER_S = 10.0


class Room:
    """`look` is called again and again. A trial that waits while another of its search trains is none of its matter."""

    def __init__(self, search: Search) -> None:
        self.search = search
        self.cluster = search.plan.recipe.cluster
        self._looked = time.monotonic()
        self._live: set[str] = set()
        self._begin()

    def _begin(self) -> None:
        """Somebody has workers, or may have."""
        self._alone_since = self._looked
        self._too_few_since: float | None = None

    def look(self) -> None:
        now = time.monotonic()
        if now - self._looked <= LOOK_S:
            return
        self._looked = now
        live = set(self.search.live)
        if live != self._live or not self._all_wait():
            self._live = live
            self._begin()
            return
        room, needed = sum(session.places()), self.search.workers
        if room >= needed:
            self._too_few_since = None
        elif self._too_few_since is None:
            self._too_few_since = now
        elif now - self._too_few_since > max(self.cluster.wait_s, SETTLE_S):
            self.search.give_up(
                f"a trial needs {needed} workers, for {now - self._too_few_since:.0f} s there was room for {room}",
                "--resume when there are hosts, or with fewer --num-workers; or raise cluster.wait_s",
            )
        if now - self._alone_since > max(self.cluster.wait_s, self.cluster.stall_timeout_s, START_S):
            self.search.give_up(
                f"no worker of any trial has started for {now - self._alone_since:.0f} s",
                "see who holds the cluster, and what Ray says in log.txt; then --resume",
            )

    def _all_wait(self) -> bool:
        """Whether trials run, and each of them is known to wait for workers: none prepares its data, none trains."""
        import ray

        answers = self.search.tell_running("waits")
        if not answers or len(answers) < len(self.search.live):
            return False
        try:
            return all(ray.get(answers, timeout=ANSWER_S))
        except ray.exceptions.RayError:
            return False
