"""Whether the trials of a search can still have workers: a search to which the cluster gives none is given up."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from distmed.tune.room import Room
from tests.tune.simulated import recipe_with


class Watched:
    """A search with one trial that has asked for four workers, ten looks a minute."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now, self.there, self.waits, self.said = 0.0, 4, True, ("", "")
        monkeypatch.setattr("distmed.tune.room.time.monotonic", lambda: self.now)
        monkeypatch.setattr("distmed.tune.room.session.places", lambda: [self.there])
        monkeypatch.setattr("ray.get", lambda answers, timeout: answers)
        self.search: Any = SimpleNamespace(
            live={"a": 0, "b": 1},
            workers=4,
            tell_running=lambda method: [self.waits, True],
            plan=SimpleNamespace(recipe=recipe_with()),
            give_up=lambda *lines: setattr(self, "said", lines if not self.said[0] else self.said),
        )
        self.room = Room(self.search)

    def minutes(self, minutes: float) -> str:
        for _ in range(round(10 * minutes)):
            self.now += 6
            self.room.look()
        return self.said[0]


@pytest.fixture
def watched(monkeypatch: pytest.MonkeyPatch) -> Watched:
    return Watched(monkeypatch)


def test_a_search_whose_trials_have_too_few_hosts_left_is_given_up(watched: Watched) -> None:
    watched.there = 3
    assert watched.minutes(0.5) == ""
    assert watched.minutes(0.5) == "a trial needs 4 workers, for 36 s there was room for 3"
    assert "--resume when there are hosts" in watched.said[1]


def test_a_search_to_which_others_give_no_place_is_given_up(watched: Watched) -> None:
    assert watched.minutes(14) == ""
    assert watched.minutes(2).startswith("no worker of any trial has started for 9")


def test_a_trial_may_wait_while_another_of_its_search_has_the_places(watched: Watched) -> None:
    watched.waits, watched.there = False, 3
    assert watched.minutes(60) == ""
    watched.waits, watched.there = True, 4
    watched.minutes(14)
    # One ends, the next begins.
    watched.search.live = {"b": 1, "c": 2}
    assert watched.minutes(14) == ""
