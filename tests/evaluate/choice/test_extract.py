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
        ("**Answer:** C", "C"),
        ("**Answer**: C", "C"),
        ("__Answer:__ (c)", "C"),
        ("**Answer: C**", "C"),
        ("The answer is **B**.", "B"),
        ("The answer is B!", "B"),
        ("The answer is B\u2014it is made there", "B"),
        ("B!", "B"),
        ("The answer is C. It is common", "C"),
        ("The answer is A. adrenaline", "A"),
        ("A. adrenaline, given at once", "A"),
        # no answer
        ("The answer is D-dimer", None),
        ("**Answer:** D-dimer", None),
        ("Answer: C difficile colitis", None),
        ("The answer is C. difficile", None),
        ("The answer is C.difficile", None),
        ("The answer is A. No, wait, the answer is C. difficile", None),
        ("**Answer:** C. difficile colitis", None),
        ("The answer is **C. difficile**", None),
        ("**Answer:** C *difficile*", None),
        ("The answer is *C. difficile*", None),
        ("The answer is A patient with fever", None),
        ("**Answer:** A patient with fever", None),
        ("The answer is A! patient", None),
        ("The answer is B/C", None),
        ("The answer is B, C", None),
        ("The answer is B or C", None),
        ("The answer is B12", None),
        ("The answer is B-cell lymphoma", None),
        ("C. difficile", None),
        ("*C. difficile*", None),
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
