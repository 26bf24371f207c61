"""The extractor: what counts as an answer, and what does not."""

from __future__ import annotations

import pytest

from distmed.evaluate.choice.extract import extract

LETTERS = "ABCD"
OPTIONS = ("Adrenaline", "Vitamin D", "Vitamin D deficiency", "I do not know")


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("B", "B"),
        (" B\n", "B"),
        ("B.", "B"),
        ("(b) because it is made there", "B"),
        ("**C**", "C"),
        ("C) Vitamin D", "C"),
        ("Option D", "D"),
        ("The answer is B.", "B"),
        ("I think the correct answer is (c).", "C"),
        ("Answer: D", "D"),
        ("The answer is A. No, wait, the answer is B.", "B"),
        ("adrenaline", "A"),
        ("It must be adrenaline, given at once", "A"),
        ("Vitamin D", "B"),
        ("A", "A"),
        ("A: Adrenaline", "A"),
        # no answer
        ("A patient with fever should get fluids", None),
        ("Because of the rash", None),
        ("E", None),
        ("b", None),
        ("", None),
        ("Either adrenaline or vitamin D", None),
        ("Diagnosis first", None),
    ],
)
def test_letters(text: str, answer: str | None) -> None:
    assert extract(text, LETTERS, OPTIONS) == answer


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("yes", "yes"),
        ("Yes, because", "yes"),
        ("The answer is: Maybe", "maybe"),
        ("nothing is known", None),
        ("notably", None),
        ("It depends", None),
    ],
)
def test_words(text: str, answer: str | None) -> None:
    assert extract(text, ("yes", "no", "maybe"), ()) == answer
