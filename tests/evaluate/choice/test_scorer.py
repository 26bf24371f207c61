"""Rows of predictions: every way of answering a question, and what happens to one that is too long."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch

from distmed.cases.case import Case
from distmed.errors import UserError
from distmed.evaluate.choice import COLUMNS, ChoiceScorer, choice_section
from distmed.evaluate.loading import Loaded

Make = Callable[..., Any]


@torch.no_grad()
def alone(model: Loaded, prompt: str, answer: str) -> float:
    """By plain transformers, words to numbers."""

    def ids(text: str) -> list[int]:
        return [model.tokenizer.bos_token_id, *model.tokenizer(text, add_special_tokens=False)["input_ids"]]

    before, whole = ids(prompt), ids(prompt + answer)
    log_p_LV = model.diagnoser.hf(input_ids=torch.tensor([whole])).logits[0].log_softmax(-1)
    return sum(log_p_LV[at - 1, whole[at]].item() for at in range(len(before), len(whole)))


def test_each_row_holds_what_plain_transformers_gives(loaded: Make, questions: list[Case]) -> None:
    model = loaded()
    rows = ChoiceScorer(model, [])(questions)
    for case, row in zip(questions, rows, strict=True):
        listed = "".join(f"{letter}. {option}\n" for letter, option in zip("ABCDE", case.options, strict=False))
        letters = [alone(model, f"{case.text}\n{listed}Answer:", f" {letter}") for letter in row["candidates"]]
        texts = [alone(model, f"Question: {case.text}\nAnswer:", f" {option}") for option in case.options]
        assert row["option_loglik"] == pytest.approx(letters, abs=1e-4)
        assert row["text_loglik"] == pytest.approx(texts, abs=1e-4)
        assert row["predicted"] == row["candidates"][int(np.argmax(letters))]
        assert row["confidence"] == pytest.approx(np.exp(max(letters)) / np.exp(letters).sum(), abs=1e-4)
        assert row["rotated_loglik"][: len(letters)] == row["option_loglik"]
        assert len(row["rotated_loglik"]) == len(letters) ** 2


def test_rotations_are_scored_as_they_are_shown(loaded: Make, questions: list[Case]) -> None:
    model = loaded()
    case, options = questions[0], questions[0].options
    turned = dataclasses.replace(case, options=(options[-1], *options[:-1]))
    scorer = ChoiceScorer(model, [])
    (row,), (other,) = scorer([case]), scorer([turned])
    assert row["rotated_loglik"][4:8] == pytest.approx(other["option_loglik"], abs=1e-4)


def test_generated_text_is_greedy(loaded: Make, questions: list[Case]) -> None:
    model = loaded(max_new_tokens=5)
    rows = ChoiceScorer(model, [])(questions)
    for case, row in zip(questions, rows, strict=True):
        listed = "".join(f"{letter}. {option}\n" for letter, option in zip("ABCDE", case.options, strict=False))
        ids = model.tokenizer(f"{case.text}\n{listed}Answer:", add_special_tokens=False)["input_ids"]
        path = [model.tokenizer.bos_token_id, *ids]
        for _ in range(5):
            with torch.no_grad():
                path.append(int(model.diagnoser.hf(input_ids=torch.tensor([path])).logits[0, -1].argmax()))
            if path[-1] == model.tokenizer.eos_token_id:
                break
        assert row["generated"] == model.tokenizer.decode(path[1 + len(ids) :], skip_special_tokens=True)


def test_rows_do_not_depend_on_what_is_scored_beside(loaded: Make, questions: list[Case]) -> None:
    together = ChoiceScorer(loaded(shots=2), questions)(questions)
    small = ChoiceScorer(loaded(shots=2, budget=64), questions)
    for case, row in zip(questions, together, strict=True):
        (again,) = small([case])
        for name in ("option_loglik", "rotated_loglik", "text_loglik"):
            assert row[name] == pytest.approx(again[name], abs=1e-4)
        assert row["prompt_hash"] == again["prompt_hash"]
        assert row["generated"] == again["generated"]
        (short,) = small.letters([case])
        assert short["predicted"] == row["predicted"]
        assert short["confidence"] == pytest.approx(row["confidence"], abs=1e-5)


def test_the_columns_have_the_types_they_promise(loaded: Make, questions: list[Case]) -> None:
    rows = ChoiceScorer(loaded(), [])(questions)
    assert set(rows[0]) == {"predicted", "confidence", "prompt_hash", "tokens", "cut", *COLUMNS}
    for name, kind in COLUMNS.items():
        pa.array([row[name] for row in rows], kind)


def test_rows_hold_no_text_of_a_question(loaded: Make, questions: list[Case]) -> None:
    rows = ChoiceScorer(loaded(), [])(questions)
    for row in rows:
        row.pop("generated")  # the model's own words
    assert not [case for case in questions if case.text in str(rows) or case.options[-1] in str(rows)]


def test_a_prompt_that_is_too_long_loses_examples_first_and_is_counted_once_cut(
    loaded: Make, questions: list[Case]
) -> None:
    free = ChoiceScorer(loaded(shots=3), questions)(questions)
    assert {row["shots_used"] for row in free} == {3}
    assert not any(row["cut"] for row in free)
    longest = max(row["tokens"] for row in ChoiceScorer(loaded(), [])(questions))
    fewer = ChoiceScorer(loaded(shots=3, seq_len=longest + 40), questions)(questions)
    assert all(row["shots_used"] < 3 for row in fewer)
    assert not any(row["cut"] for row in fewer)
    assert [row["tokens"] for row in fewer] == [row["tokens"] for row in free]  # of the whole prompt
    tight = ChoiceScorer(loaded(seq_len=longest - 1), [])(questions)
    assert 0 < sum(row["cut"] for row in tight) < len(questions)
    assert all(np.isfinite(row["option_loglik"]).all() for row in tight)


def test_scores_that_are_not_finite_are_told(loaded: Make, questions: list[Case]) -> None:
    model = loaded()
    with torch.no_grad():
        model.diagnoser.hf.lm_head.weight.fill_(float("nan"))
    rows = ChoiceScorer(model, [])(questions)
    table = pa.Table.from_pylist(
        [{**row, "gold": case.label, "group": case.group} for case, row in zip(questions, rows, strict=True)]
    )
    with pytest.raises(UserError, match="the scores of 5 of 5 questions are not finite"):
        choice_section(table)


def test_equal_scores_and_answers_without_a_letter_are_reported(loaded: Make, questions: list[Case]) -> None:
    model = loaded(max_new_tokens=2)
    with torch.no_grad():
        model.diagnoser.hf.lm_head.weight.zero_()
    rows = ChoiceScorer(model, [])(questions)
    table = pa.Table.from_pylist(
        [{**row, "gold": case.label, "group": case.group} for case, row in zip(questions, rows, strict=True)]
    )
    section = choice_section(table)
    assert section["ties"] == 5
    assert section["unparsed"]["value"] == 1
    assert section["generated"]["value"] == 0


def test_a_classifier_is_refused(loaded: Make) -> None:
    with pytest.raises(UserError, match="need a model that writes text"):
        ChoiceScorer(dataclasses.replace(loaded(), task="classify"), [])
