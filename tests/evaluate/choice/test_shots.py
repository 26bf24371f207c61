"""Solved examples: drawn by seed or by likeness, and never the question itself."""

from __future__ import annotations

import dataclasses

import pytest

from distmed.cases.case import Case
from distmed.errors import UserError
from distmed.evaluate.choice.shots import Shots
from distmed.recipe import Choice


def test_fixed_examples_follow_from_the_seed_and_not_from_the_cases(questions: list[Case]) -> None:
    strangers = [dataclasses.replace(case, id=f"x{case.id}", text=f"Tell me: {case.text}") for case in questions]
    first = Shots(questions, Choice(shots=2, shot_seed=3)).of(strangers)
    assert first == Shots(questions, Choice(shots=2, shot_seed=3)).of(strangers)
    assert all(found == first[0] for found in first)
    draws = [Shots(questions, Choice(shots=2, shot_seed=seed)).of(strangers[:1]) for seed in range(8)]
    assert any(draw != draws[0] for draw in draws)


@pytest.mark.parametrize("choice", ["fixed", "nearest"])
def test_a_question_is_never_its_own_example(choice: str, questions: list[Case]) -> None:
    copies = [dataclasses.replace(case, id=f"copy-{case.id}", text=f" {case.text.upper()}") for case in questions]
    shots = Shots([*questions, *copies], Choice(shots=3, shot_choice=choice))
    for case, found in zip(questions, shots.of(questions), strict=True):
        assert len(found) == 3
        assert not {other.id.removeprefix("copy-") for other in found} & {case.id}


def test_the_most_similar_example_stands_next_to_the_question(questions: list[Case]) -> None:
    asked = dataclasses.replace(questions[4], id="new", text="Which nerve is compressed at the wrist in carpal tunnel?")
    (found,) = Shots(questions, Choice(shots=2, shot_choice="nearest")).of([asked])
    assert found[-1].id == questions[4].id


def test_too_few_solved_questions_are_told(questions: list[Case]) -> None:
    unsolved = [dataclasses.replace(case, label=None) for case in questions]
    for train in ([], unsolved, questions):
        with pytest.raises(UserError, match=r"choice\.shots=6, but train has"):
            Shots(train, Choice(shots=6))
    assert Shots([], Choice()).of(questions) == [()] * len(questions)
