from __future__ import annotations

import dataclasses
import pickle
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from distmed.cases.case import Case
from distmed.cases.chats import rendered
from distmed.recipe import Recipe
from distmed.stream.encode import AT_ONCE, Encode, prompt_hash, tokenizer_hash

RecipeMaker = Callable[..., Recipe]

CASE = Case(
    id="p1",
    kind="diagnosis",
    group="p1",
    findings=("acute pain", "mild fever", "severe rash"),
    label="D1",
    label_name="disease 1",
)


def test_a_classified_case_ends_with_one_summary_token(recipe: RecipeMaker, tokenizer: Any) -> None:
    encode = Encode(recipe(), tokenizer, {"D0": 0, "D1": 1})
    example = encode(CASE, 0, True)
    assert example.input_ids.dtype == np.int32
    assert tokenizer.decode(example.input_ids) == "acute pain; mild fever; severe rash</s>"
    assert example.label == 1
    assert example.target_start == len(example.input_ids)
    assert encode(dataclasses.replace(CASE, label="D9"), 0, False).label == -1


def test_an_encoder_keeps_its_own_frame(recipe: RecipeMaker, tokenizer: Any) -> None:
    from tokenizers.processors import TemplateProcessing
    from transformers import PreTrainedTokenizerFast

    raw = pickle.loads(pickle.dumps(tokenizer)).backend_tokenizer
    raw.post_processor = TemplateProcessing(single="<s> $A </s>", special_tokens=[("<s>", 1), ("</s>", 2)])
    framed = PreTrainedTokenizerFast(tokenizer_object=raw, cls_token="<s>", sep_token="</s>", pad_token="<pad>")
    ids = Encode(recipe(), framed, {})(CASE, 0, True).input_ids
    assert ids[0] == 1 and ids[-1] == 2 and (ids == 2).sum() == 1


def test_an_empty_case_still_has_a_token(recipe: RecipeMaker, tokenizer: Any) -> None:
    empty = Case(id="e", kind="diagnosis", group="e", label="D0")
    assert len(Encode(recipe(), tokenizer, {})(empty, 0, True).input_ids) == 1


def test_the_answer_and_its_end_are_the_target(recipe: RecipeMaker, tokenizer: Any) -> None:
    example = Encode(recipe("generate"), tokenizer, {})(CASE, 0, True)
    assert tokenizer.decode(example.input_ids[example.target_start :]) == "disease 1</s>"
    assert tokenizer.decode(example.input_ids[: example.target_start]).endswith("<|assistant|>\n")


def test_of_a_dialogue_the_last_answer_is_the_target(recipe: RecipeMaker, tokenizer: Any) -> None:
    turns = (("user", "pain?"), ("assistant", "where?"), ("user", "here"), ("assistant", "mild rash"))
    example = Encode(recipe("generate"), tokenizer, {})(
        Case(id="d", kind="dialogue", group="d", messages=turns), 0, True
    )
    assert tokenizer.decode(example.input_ids[example.target_start :]) == "mild rash</s>"


def test_a_dialogue_without_an_answer_has_no_target(recipe: RecipeMaker, tokenizer: Any) -> None:
    case = Case(id="d", kind="dialogue", group="d", messages=(("user", "pain?"),))
    example = Encode(recipe("generate"), tokenizer, {})(case, 0, True)
    assert example.target_start == len(example.input_ids)


def test_tokens_that_merge_over_the_border_belong_to_the_answer(recipe: RecipeMaker, tokenizer: Any) -> None:
    """ "pain" is one token here, so a prompt that ends with "pa" is no prefix of the whole."""
    merging = pickle.loads(pickle.dumps(tokenizer))
    merging.chat_template = "{% for m in messages %}{{ m['content'] }}{% endfor %}"
    case = Case(id="d", kind="dialogue", group="d", messages=(("user", "acute rash, pa"), ("assistant", "in")))
    example = Encode(recipe("generate"), merging, {})(case, 0, True)
    targets = merging.decode(example.input_ids[example.target_start :])
    assert targets.endswith("pain") and targets.strip() == "pain"


def test_where_the_template_asks_otherwise_than_it_records_the_answer_starts_at_the_difference(
    recipe: RecipeMaker, tokenizer: Any
) -> None:
    """Some templates open a thought when they ask for an answer, and leave it out of a finished chat."""
    thinking = pickle.loads(pickle.dumps(tokenizer))
    thinking.chat_template = (
        "{% for m in messages %}{{ m['content'] }}{% endfor %}{{ '<think>' if add_generation_prompt else '' }}"
    )
    case = Case(id="d", kind="dialogue", group="d", messages=(("user", "acute pain"), ("assistant", " mild rash")))
    example = Encode(recipe("generate"), thinking, {})(case, 0, True)
    assert thinking.decode(example.input_ids[example.target_start :]) == " mild rash"


DATED = "{{ 'Today Date: ' + strftime_now('%d %b %Y') }}{% for m in messages %}{{ m['content'] }}{% endfor %}"


def test_a_template_that_writes_the_day_gives_the_same_tokens_on_any_day(recipe: RecipeMaker, tokenizer: Any) -> None:
    dated = pickle.loads(pickle.dumps(tokenizer))
    dated.chat_template = DATED
    assert rendered(dated, [[{"role": "user", "content": ", rash"}]]) == ["Today Date: 26 Jul 2024, rash"]
    at = "{% set form = '%A %Y-%m-%d 100%%' %}{% if strftime_now is defined %}{{ strftime_now(form) }}{% endif %}"
    other = pickle.loads(pickle.dumps(tokenizer))
    other.chat_template = at
    assert rendered(other, [[]]) == ["Friday 2024-07-26 100%"]
    fixed = pickle.loads(pickle.dumps(tokenizer))
    fixed.chat_template = DATED.replace("strftime_now('%d %b %Y')", "'26 Jul 2024'")
    ids = [Encode(recipe("generate"), each, {})(CASE, 0, True).input_ids.tolist() for each in (dated, fixed)]
    assert ids[0] == ids[1]


def test_training_draws_findings_by_seed_epoch_and_case_and_evaluation_never(
    recipe: RecipeMaker, tokenizer: Any
) -> None:
    encode = Encode(recipe(data={"drop_findings": 0.5, "shuffle_findings": True}), tokenizer, {})
    drawn = {bytes(encode(CASE, epoch, True).input_ids) for epoch in range(12)}
    assert len(drawn) > 3
    assert bytes(encode(CASE, 5, True).input_ids) == bytes(encode(CASE, 5, True).input_ids)
    whole = Encode(recipe(), tokenizer, {})(CASE, 0, True).input_ids
    assert bytes(encode(CASE, 5, False).input_ids) == bytes(whole)


def test_one_by_one_and_in_batches_give_the_same(recipe: RecipeMaker, tokenizer: Any) -> None:
    cases = [dataclasses.replace(CASE, id=f"p{n}", findings=CASE.findings[: n % 3 + 1]) for n in range(AT_ONCE + 3)]
    for task in ("classify", "generate"):
        encode = Encode(recipe(task), tokenizer, {"D1": 0})
        for case, example in zip(cases, encode.batch(cases, 0, True), strict=True):
            alone = encode(case, 0, True)
            assert (alone.case_id, alone.target_start, alone.label) == (case.id, example.target_start, example.label)
            assert alone.input_ids.tolist() == example.input_ids.tolist()
        ids_N, _ = encode.tokens(cases, 0, True)
        assert ids_N.tolist() == np.concatenate([encode(case, 0, True).input_ids for case in cases]).tolist()


def test_hashes_change_with_what_they_stand_for_and_with_nothing_else(recipe: RecipeMaker, tokenizer: Any) -> None:
    before = tokenizer_hash(tokenizer)
    used = pickle.loads(pickle.dumps(tokenizer))
    used(["a", "a longer text"], padding=True, truncation=True, max_length=4)
    assert tokenizer_hash(used) == before
    used.chat_template = "another"
    assert tokenizer_hash(used) != before
    dropping = recipe(data={"drop_findings": 0.1})
    assert prompt_hash(dropping, train=False) == prompt_hash(recipe(), train=True)
    assert prompt_hash(dropping, train=True) != prompt_hash(recipe(), train=True)
    assert prompt_hash(recipe(train={"seed": 9}), train=True) == prompt_hash(recipe(), train=True)
    assert prompt_hash(recipe("generate"), train=True) != prompt_hash(recipe(), train=True)


@pytest.mark.parametrize("task", ["classify", "generate"])
def test_nothing_is_truncated(recipe: RecipeMaker, tokenizer: Any, task: str) -> None:
    limited = pickle.loads(pickle.dumps(tokenizer))
    limited.model_max_length = 8
    limited.backend_tokenizer.enable_truncation(8)
    long = dataclasses.replace(CASE, findings=CASE.findings * 40)
    example = Encode(recipe(task), limited, {})(long, 0, True)
    assert len(example.input_ids) > 300
