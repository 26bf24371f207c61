"""The figures of multiple choice, against cases worked by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from distmed.errors import UserError
from distmed.evaluate.choice.section import choice_section
from distmed.evaluate.figure import limits_to_read


def row(gold: str | None, letters: list[list[float]], parsed: str | None = None, **changes: Any) -> dict[str, Any]:
    """`letters[s]`: log-likelihoods of the letters, by place, in rotation s."""
    candidates = "ABCDE"[: len(letters[0])]
    return {
        "group": "exam",
        "gold": gold,
        "predicted": candidates[int(np.argmax(letters[0]))],
        "candidates": list(candidates),
        "option_loglik": letters[0],
        "rotated_loglik": [score for rotation in letters for score in rotation],
        "text_loglik": letters[0],
        "text_chars": [1] * len(candidates),
        "parsed": parsed,
        "shots_used": 0,
        **changes,
    }


def section(*rows: dict[str, Any]) -> dict[str, Any]:
    return choice_section(pa.Table.from_pylist(list(rows)))


ALWAYS_A = [[0.0, -1.0], [0.0, -1.0]]
KNOWS_A = [[0.0, -2.0], [-2.0, 0.0]]  # option A stands at place B in rotation 1


def test_a_model_that_always_says_a_flips_on_every_question() -> None:
    bias = section(row("A", ALWAYS_A), row("B", ALWAYS_A), row("B", ALWAYS_A))["position_bias"]
    assert bias["flip_rate"]["value"] == 1
    assert [place["value"] for place in bias["accuracy_by_place"]] == [1, 0]
    assert [place["chosen"] for place in bias["accuracy_by_place"]] == [1, 0]
    assert bias["spread"]["value"] == 1


def test_a_model_that_knows_never_flips() -> None:
    bias = section(row("A", KNOWS_A), row("A", KNOWS_A))["position_bias"]
    assert bias["flip_rate"]["value"] == 0
    assert [place["value"] for place in bias["accuracy_by_place"]] == [1, 1]
    assert [place["chosen"] for place in bias["accuracy_by_place"]] == [0.5, 0.5]
    assert bias["spread"]["value"] == 0
    assert bias["debiased"]["value"] == 1


def test_the_mean_over_permutations_takes_a_bias_away() -> None:
    # It leans to A by 1 and knows by 0.5 that option B is right: B stands first in rotation 1.
    leaning = [[1.0, 0.5], [1.5, 0.0]]
    figures = section(row("B", leaning), row("B", leaning))
    assert figures["letter"]["value"] == 0
    assert figures["position_bias"]["debiased"]["value"] == 1


def test_accuracy_by_each_way_of_answering() -> None:
    figures = section(
        row("A", KNOWS_A, parsed="A", text_loglik=[-4.0, -3.0], text_chars=[8, 2]),
        row("B", KNOWS_A, parsed=None),
        row("A", KNOWS_A, parsed="B"),
        row(None, KNOWS_A, parsed="A"),
    )
    assert figures["n"] == 3
    assert figures["unlabelled"] == 1
    assert figures["letter"]["value"] == pytest.approx(2 / 3)
    assert figures["text"]["value"] == pytest.approx(1 / 3)
    assert figures["text_normalized"]["value"] == pytest.approx(2 / 3)  # -4/8 beats -3/2
    assert figures["generated"]["value"] == pytest.approx(1 / 3)
    assert figures["unparsed"]["value"] == pytest.approx(1 / 3)
    assert figures["chance"] == 0.5
    assert figures["most_frequent"]["value"] == pytest.approx(2 / 3)
    assert figures["letter"]["method"] == "wilson"
    assert figures["letter"]["low"] < 2 / 3 < figures["letter"]["high"]


def test_an_answer_that_is_often_right_is_worth_no_more_than_chance() -> None:
    from sklearn.metrics import balanced_accuracy_score

    words = {"candidates": ["yes", "no", "maybe"], "predicted": "yes"}
    golds = ["yes"] * 6 + ["no"] * 3 + ["maybe"]
    scores = [[0.0, -1.0, -2.0]]
    rows = [row(gold, scores, "no" if n % 2 else "yes", group=str(n), **words) for n, gold in enumerate(golds)]
    figures = section(*rows)
    assert figures["letter"]["value"] == 0.6
    assert figures["balanced"]["letter"]["value"] == pytest.approx(1 / 3)
    parsed = [each["parsed"] for each in rows]
    assert figures["balanced"]["generated"]["value"] == pytest.approx(balanced_accuracy_score(golds, parsed))
    assert figures["balanced"]["generated"]["low"] < figures["balanced"]["generated"]["high"]


def test_shares_over_exams_of_several_questions_have_the_intervals_of_the_exams() -> None:
    figures = section(*(row("A" if n < 6 else "B", KNOWS_A, group=f"exam {n // 3}") for n in range(12)))
    bias = figures["position_bias"]
    for found in (
        figures["letter"],
        figures["unparsed"],
        bias["debiased"],
        bias["flip_rate"],
        bias["accuracy_by_place"][0],
    ):
        assert found["cluster_method"] is not None
    assert limits_to_read(figures["letter"]) == (0, 1)


def test_shares_of_places_sum_to_one_where_questions_have_four_and_five_options() -> None:
    # One model always gives the first letter, of four options; one always the last, of five.
    first, last = [[0.0] + [-1.0] * 3] * 4, [[-1.0] * 4 + [0.0]] * 5
    bias = section(row("A", first), row("B", first), row("C", first), row("D", last))["position_bias"]
    places = {place["place"]: place for place in bias["accuracy_by_place"]}
    assert {name: place["chosen"] for name, place in places.items()} == {"A": 0.75, "B": 0, "C": 0, "D": 0, "E": 0.25}
    assert [place["n"] for place in places.values()] == [4, 4, 4, 4, 1]
    assert places["A"]["value"] == 0.75 and places["E"]["value"] == 1
    # The spread is over the places that every question has.
    assert bias["spread"]["value"] == 0.75


def test_words_have_no_places() -> None:
    words = row("yes", [[0.0, -1.0, -2.0]], candidates=["yes", "no", "maybe"], predicted="yes")
    assert section(words)["position_bias"] is None
    assert section(words)["letter"]["value"] == 1


def test_one_question_and_none() -> None:
    assert section(row("A", KNOWS_A))["position_bias"]["spread"]["low"] is None  # one group: nothing to draw
    empty = section(row(None, KNOWS_A))
    assert empty["letter"]["value"] is None
    assert empty["letter"]["why"] == "undefined, n=0"


def test_an_answer_that_is_none_of_the_candidates_is_told() -> None:
    with pytest.raises(UserError, match="the right answer of 1 of 2 questions is none of A, B"):
        section(row("A", KNOWS_A), row("si", KNOWS_A))
