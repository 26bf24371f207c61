"""What a model reads and writes, and which findings it sees in which epoch."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

from distmed.cases.case import Case
from distmed.cases.prompts import DEFAULT_CHAT_TEMPLATE, Draw, Prompt
from distmed.recipe import Data, Source

CASE = Case(
    id="c1",
    kind="diagnosis",
    group="g",
    findings=("Ataxia", "Seizure", "Fever"),
    excluded=("Cataract", "Rash"),
    sex="female",
    age_years=0.25,
    label="OMIM:1",
    label_name="Some syndrome",
)
CHOICE = Case(id="q", kind="choice", group="g", text="Which?", options=("this", "that"), label="B", label_name="B")
FINDINGS = tuple(f"finding {i}" for i in range(20))


def prompt(task: Any = "classify", **data: Any) -> Prompt:
    return Prompt(task, Data(train=[Source(source="x")], **data))


def test_a_classifier_reads_sex_age_findings_and_what_was_not_found() -> None:
    assert prompt().text(CASE) == "female, 3 months old. Ataxia; Seizure; Fever. Not found: Cataract; Rash"
    assert prompt(excluded_findings=False).text(CASE) == "female, 3 months old. Ataxia; Seizure; Fever"


def test_what_is_unknown_leaves_no_trace() -> None:
    assert prompt().text(Case(id="c", kind="diagnosis", group="g", findings=("Fever",))) == "Fever"


def test_a_vignette_is_read_as_it_is_and_its_findings_are_not_told_twice() -> None:
    case = Case(id="c", kind="diagnosis", group="g", text="A child with fits.", findings=("Seizure",), sex="male")
    assert prompt(shuffle_findings=True).text(case, Draw(1, 0, "c")) == "A child with fits."


def test_a_generator_answers_with_the_name_of_the_disease() -> None:
    question, answer = prompt("generate").messages(CASE)
    assert question["role"] == "user"
    assert question["content"].endswith("Ataxia; Seizure; Fever. Not found: Cataract; Rash")
    assert answer == {"role": "assistant", "content": prompt("generate").answer("Some syndrome")}


def test_a_choice_lists_its_options_and_is_answered_by_letter() -> None:
    question, answer = prompt("generate").messages(CHOICE)
    assert question["content"].startswith("Which?\nA) this\nB) that\n")
    assert answer["content"] == "B"
    assert prompt().text(CHOICE) == "Which?\nA) this\nB) that"


def test_a_dialogue_passes_through() -> None:
    case = Case(id="d", kind="dialogue", group="g", messages=(("user", "Why?"), ("assistant", "So.")))
    assert prompt("generate").messages(case) == [
        {"role": "user", "content": "Why?"},
        {"role": "assistant", "content": "So."},
    ]


def test_without_augmentation_a_draw_changes_nothing() -> None:
    assert prompt().text(CASE, Draw(1, 0, "c1")) == prompt().text(CASE)


def test_a_draw_is_a_function_of_seed_epoch_and_case_alone() -> None:
    def drawn(*key: Any) -> tuple[str, ...]:
        return Draw(*key).findings(FINDINGS, 0.3, True)

    assert drawn(1, 0, "a") == drawn(1, 0, "a")
    keys = ((1, 0, "a"), (2, 0, "a"), (1, 1, "a"), (1, 0, "b"), (1, 10, "a"), (11, 0, "a"))
    assert len({drawn(*key) for key in keys}) == len(keys)


def test_a_draw_is_the_same_in_another_process() -> None:
    code = "from distmed.cases.prompts import Draw; print(Draw(1, 2, 'a').findings(tuple('abcdefgh'), .3, True))"
    outputs = {
        subprocess.run(
            [sys.executable, "-c", code], env={"PYTHONHASHSEED": seed}, capture_output=True, text=True
        ).stdout
        for seed in ("1", "2")
    }
    assert outputs == {f"{Draw(1, 2, 'a').findings(tuple('abcdefgh'), 0.3, True)}\n"}


def test_dropping_keeps_order_and_about_the_share_asked_for() -> None:
    kept = [Draw(1, 0, str(i)).findings(FINDINGS, 0.3, False) for i in range(500)]
    assert all(list(some) == sorted(some, key=FINDINGS.index) for some in kept)
    assert 0.67 < sum(map(len, kept)) / (500 * 20) < 0.73


def test_shuffling_alone_loses_nothing() -> None:
    drawn = Draw(1, 0, "a").findings(FINDINGS, 0.0, True)
    assert drawn != FINDINGS
    assert set(drawn) == set(FINDINGS)


def test_dropping_never_takes_every_finding() -> None:
    case = Case(id="c", kind="diagnosis", group="g", findings=("Fever", "Rash"))
    dropping = prompt(drop_findings=0.99)
    texts = {dropping.text(case, Draw(1, epoch, "c")) for epoch in range(200)}
    assert texts >= {"Fever", "Rash"}
    assert "" not in texts


def test_the_default_chat_template_marks_roles_and_ends_an_answer() -> None:
    import jinja2

    # As transformers renders chat templates.
    template = jinja2.Environment(trim_blocks=True, lstrip_blocks=True).from_string(DEFAULT_CHAT_TEMPLATE)
    messages = prompt("generate").messages(CHOICE)
    whole = template.render(messages=messages, bos_token="<s>", eos_token="</s>")
    asked = template.render(messages=messages[:-1], bos_token="<s>", eos_token="</s>", add_generation_prompt=True)
    assert whole == asked + "B</s>"
    assert asked.startswith("<s><|user|>\nWhich?\nA) this\n")
    assert asked.endswith("\n<|assistant|>\n")
    assert template.render(messages=messages, eos_token="</s>").startswith("<|user|>")
