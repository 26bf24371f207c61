"""What is told of the steps that a restart repeats."""

from __future__ import annotations

from distmed.train.repeated import KEPT, Repeated


def run(steps: dict[int, float]) -> Repeated:
    repeated = Repeated()
    for step, loss in steps.items():
        assert repeated.log(step, loss) is None
    return repeated


def told(repeated: Repeated, steps: dict[int, float]) -> list[str]:
    return [text for step, loss in steps.items() if (text := repeated.log(step, loss))]


def test_the_same_losses_are_told_once_all_are_there() -> None:
    repeated = run({1: 3.0, 2: 2.5, 3: 2.0})
    repeated.restart()
    assert repeated.log(2, 2.5) is None
    assert repeated.log(3, 2.0) == "the 2 repeated steps gave the same losses"
    assert repeated.log(4, 1.5) is None


def test_a_difference_is_told_and_one_beyond_rounding_as_such() -> None:
    repeated = run({1: 3.0, 2: 2.0})
    repeated.restart()
    assert told(repeated, {2: 2.0002}) == ["the repeated step gave another loss, by a share of 1.0e-04 at most"]
    repeated.restart()
    (text,) = told(repeated, {1: 3.0, 2: 2.1})
    assert text.startswith("the 2 repeated steps gave another loss") and text.endswith("more than rounding does")


def test_the_first_difference_is_told_before_all_steps_are_there() -> None:
    repeated = run({1: 3.0, 2: 2.0, 3: 1.0, 4: 0.5})
    repeated.restart()
    assert told(repeated, {1: 3.0, 2: 2.002, 3: 1.002}) == [
        "step 2, repeated, gave another loss, by a share of 1.0e-03"
    ]


def test_what_a_restart_did_not_get_to_is_held_against_what_was_first() -> None:
    repeated = run({1: 3.0, 2: 2.5, 3: 2.0})
    repeated.restart()
    assert repeated.log(1, 3.0) is None
    repeated.restart()
    assert told(repeated, {1: 3.0, 2: 2.5, 3: 1.0})[0].startswith("the 3 repeated steps gave another loss")


def test_a_restart_that_repeats_nothing_tells_nothing() -> None:
    repeated = run({1: 3.0})
    repeated.restart()
    assert told(repeated, {2: 2.0, 3: 1.0}) == []


def test_the_losses_of_a_long_run_do_not_pile_up() -> None:
    repeated = run(dict.fromkeys(range(KEPT + 5), 1.0))
    assert len(repeated.logged) == KEPT and min(repeated.logged) == 5
