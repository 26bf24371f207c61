"""What a killed trial held goes back, and what a living one holds does not."""

from __future__ import annotations

import time
from typing import Any

import ray

from distmed.tune import leftovers


@ray.remote(num_cpus=0)
class Holder:
    """As Ray Train's controller: an actor that makes a placement group."""

    def hold(self) -> Any:
        self.group = ray.util.placement_group([{"CPU": 1}])
        ray.get(self.group.ready())
        return self.group


def free(expected: float) -> bool:
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline and ray.available_resources().get("CPU", 0) != expected:
        time.sleep(0.1)
    return ray.available_resources().get("CPU", 0) == expected


def test_places_of_the_dead_are_given_back_and_no_others(ray_address: str) -> None:
    before = ray.available_resources()["CPU"]
    killed, living = Holder.remote(), Holder.remote()
    ray.get([killed.hold.remote(), living.hold.remote()])
    # As Ray Tune's, for the trials themselves.
    of_driver = ray.util.placement_group([{"CPU": 1}])
    ray.get(of_driver.ready())
    assert free(before - 3) and leftovers.give_back() == 0
    ray.kill(killed)
    deadline = time.monotonic() + 20
    while not (found := leftovers.give_back()) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert found == 1 and free(before - 2)
    assert leftovers.give_back() == 0
    ray.kill(living)
    ray.util.remove_placement_group(of_driver)
    while not leftovers.give_back() and time.monotonic() < deadline:
        time.sleep(0.1)
    assert free(before)
