"""How a question is put into words and tokens."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from distmed.cases.case import Case
from distmed.cases.prompts import Prompt
from distmed.errors import UserError
from distmed.evaluate.choice.questions import Question, Questions, brings_chat_template, rotated
from distmed.evaluate.choice.tokens import Request, Splitter, cut
from distmed.model.load import load_tokenizer
from distmed.recipe import Choice

Make = Callable[..., Any]
ABSTRACT = Case(id="p", kind="choice", group="p", text="Does it help?", label="maybe", label_name="maybe")


def test_letters_are_asked_as_the_harness_asks_mmlu(loaded: Make, questions: list[Case]) -> None:
    question = Questions(Choice(chat="never"), loaded().tokenizer).ask("letter", questions[0], [])
    assert question.prompt == (
        "Which drug is given first for anaphylaxis?\nA. Adrenaline\nB. Atenolol\nC. Aspirin\nD. Insulin\nAnswer:"
    )
    assert question.answers == (" A", " B", " C", " D")


def test_texts_are_asked_as_the_harness_asks_head_qa(loaded: Make, questions: list[Case]) -> None:
    question = Questions(Choice(chat="never"), loaded().tokenizer).ask("text", questions[2], questions[:1])
    assert question.prompt == (
        "Question: Which drug is given first for anaphylaxis?\nAnswer: Adrenaline\n\n"
        "Question: A man has fever, a new murmur and splinter hemorrhages. What is it?\nAnswer:"
    )
    assert question.answers == (" Gout", " Scurvy", " Endocarditis")


def test_in_a_chat_letters_are_asked_as_in_training(loaded: Make, questions: list[Case]) -> None:
    model = loaded()
    asked = Questions(Choice(chat="always"), model.tokenizer).ask("letter", questions[0], [])
    trained = Prompt("generate", model.recipe.data).messages(questions[0])
    render = model.tokenizer.apply_chat_template
    assert asked.prompt == render(trained[:-1], tokenize=False, add_generation_prompt=True)
    (right,) = (answer for answer in asked.answers if answer == trained[-1]["content"])
    assert render(trained, tokenize=False).startswith(asked.prompt + right)


def test_a_chat_that_names_the_day_is_asked_as_on_the_day_of_training(loaded: Make, questions: list[Case]) -> None:
    tokenizer = loaded().tokenizer
    tokenizer.chat_template = "{{ strftime_now('%d %b %Y') }}"
    assert Questions(Choice(chat="always"), tokenizer).ask("letter", questions[0], []).prompt == "26 Jul 2024"


def test_in_a_chat_examples_are_earlier_turns(loaded: Make, questions: list[Case]) -> None:
    prompt = Questions(Choice(chat="always"), loaded().tokenizer).ask("letter", questions[0], questions[1:3]).prompt
    assert prompt.count("<|user|>") == 3
    assert prompt.count("<|assistant|>\nB") == 1
    assert prompt.count("<|assistant|>\nC") == 1


def test_a_question_without_options_is_answered_in_words(loaded: Make) -> None:
    asked = Questions(Choice(chat="never"), loaded().tokenizer).ask("letter", ABSTRACT, [])
    assert asked == Question("Does it help?\nAnswer:", (" yes", " no", " maybe"))


def test_rotations_show_each_option_at_each_place_once() -> None:
    options = ("a", "b", "c")
    turns = [rotated(options, by) for by in range(3)]
    assert turns == [("a", "b", "c"), ("c", "a", "b"), ("b", "c", "a")]
    assert all(turns[by][(i + by) % 3] == option for by in range(3) for i, option in enumerate(options))


def test_a_template_of_the_recipe_is_used(loaded: Make, questions: list[Case]) -> None:
    settings = Choice(chat="never", letter_prompt="{{ options[0][1] }} or {{ options[1][1] }}? {{ question }} ->")
    asked = Questions(settings, loaded().tokenizer).ask("letter", questions[0], [])
    assert asked.prompt == "Adrenaline or Atenolol? Which drug is given first for anaphylaxis? ->"


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"letter_prompt": "{{ question"}, "choice.letter_prompt is no template"),
        ({"letter_prompt": "{{ queston }}"}, "'queston' is undefined"),
        ({"letter_prompt": "{{ question }} Answer:"}, "choice.letter_prompt never shows the options"),
        ({"text_prompt": "Answer:"}, "choice.text_prompt never shows the question"),
        ({"text_prompt": "{{ question.__class__.__mro__ }}"}, "choice.text_prompt"),
    ],
)
def test_a_wrong_template_is_told(settings: dict[str, str], message: str, loaded: Make) -> None:
    with pytest.raises(UserError) as error:
        Questions(Choice(**settings), loaded().tokenizer)
    assert message in error.value.message
    assert "\n" not in error.value.message + error.value.hint


def test_only_a_template_of_the_models_own_makes_a_chat(tokenizer_folder: Path, tmp_path: Path) -> None:
    tokenizer = load_tokenizer(tokenizer_folder)
    assert brings_chat_template(tokenizer)
    tokenizer.chat_template = None
    tokenizer.save_pretrained(tmp_path)
    assert not brings_chat_template(load_tokenizer(tmp_path))


def test_a_prompt_begins_but_never_ends_with_a_special_token(loaded: Make) -> None:
    tokenizer = loaded().tokenizer
    assert tokenizer("a")["input_ids"][-1] == tokenizer.eos_token_id  # this one would add both
    ((request, _),) = Splitter(tokenizer, chat=False)([Question("Is it gout?\nAnswer:", (" A", " B"))])
    assert request.prompt[0] == tokenizer.bos_token_id
    assert tokenizer.decode(request.prompt[1:]) == "Is it gout?\nAnswer:"
    assert tokenizer.decode(request.answer) == " A"


def test_a_chat_gets_no_second_beginning(loaded: Make, questions: list[Case]) -> None:
    tokenizer = loaded().tokenizer
    asked = Questions(Choice(chat="always"), tokenizer).ask("letter", questions[0], [])
    for chat in (True, False):
        ((request, *_),) = Splitter(tokenizer, chat=chat)([asked])
        assert request.prompt.count(tokenizer.bos_token_id) == 1


def test_a_space_at_the_end_of_a_prompt_goes_to_the_answer(loaded: Make) -> None:
    split = Splitter(loaded().tokenizer, chat=False)
    assert split([Question("Answer: ", ("A",))]) == split([Question("Answer:", (" A",))])


def test_an_empty_prompt_and_an_empty_answer_still_have_a_token(loaded: Make) -> None:
    ((request,),) = Splitter(loaded().tokenizer, chat=True)([Question("", ("",))])
    assert request.prompt and request.answer


def test_a_cut_keeps_the_first_token_and_the_end() -> None:
    request = Request([1, 2, 3, 4, 5, 6], [7, 8])
    assert cut(request, 7) is request
    assert cut(request, 5) == Request([1, 4, 5, 6], [7, 8])
    assert cut(request, 5).read == 5
