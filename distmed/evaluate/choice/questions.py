"""Questions: the words in which a case is put to a model, and the words whose likelihood is asked for.

A case and its solved examples flow in; a prompt and the answers that may follow it flow out. Templates come from the recipe;
those built in ask as lm-evaluation-harness does in MMLU (letters) and HEAD-QA (text), or in a chat as training does.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple

from distmed.cases.case import Case
from distmed.cases.chats import rendered
from distmed.cases.columns import LETTERS
from distmed.cases.prompts import DEFAULT_CHAT_TEMPLATE
from distmed.errors import UserError
from distmed.recipe import Choice

if TYPE_CHECKING:
    from jinja2 import Template
    from transformers import PreTrainedTokenizerBase

Mode = Literal["letter", "text"]

OPTIONS = "{% for letter, option in options %}{{ letter }}. {{ option }}\n{% endfor %}"
PLAIN: dict[Mode, str] = {
    "letter": "{{ question }}\n" + OPTIONS + "Answer:",
    "text": "Question: {{ question }}\nAnswer:",
}
# The wording of `cases/prompts.py`, which is what a model was trained on.
CHAT: dict[Mode, str] = {
    "letter": "{{ question }}{% if options %}\n{% for letter, option in options %}{{ letter }}) {{ option }}\n{% endfor %}"
    "Answer with the letter of the right option only.{% endif %}",
    "text": "{{ question }}",
}
BETWEEN_SHOTS = "\n\n"


class Question(NamedTuple):
    """A prompt, and what may follow it, in the order of the options as they are shown."""

    prompt: str
    answers: tuple[str, ...]


class Questions:
    """How a recipe asks one model. `chat`: by the tokenizer's chat template, with solved examples as earlier turns."""

    def __init__(self, settings: Choice, tokenizer: PreTrainedTokenizerBase) -> None:
        self.tokenizer = tokenizer
        self.chat = settings.chat == "always" or (settings.chat == "auto" and brings_chat_template(tokenizer))
        built_in = CHAT if self.chat else PLAIN
        self.words = tuple(settings.answers)
        self.sources: dict[Mode, str] = {
            "letter": settings.letter_prompt or built_in["letter"],
            "text": settings.text_prompt or built_in["text"],
        }
        self.templates: dict[Mode, Template] = {mode: _compiled(mode, source) for mode, source in self.sources.items()}

    def candidates(self, case: Case) -> tuple[str, ...]:
        """What the right answer is compared with: the letters, or the words where a case has no options."""
        return tuple(LETTERS[: len(case.options)]) if case.options else self.words

    def ask(self, mode: Mode, case: Case, shots: Sequence[Case], rotation: int = 0) -> Question:
        """`rotation` shows option i at place (i + rotation) mod K; solved examples are never rotated."""
        shown = rotated(case.options, rotation)
        answers = shown if mode == "text" and case.options else self.candidates(case)
        prompt = self._prompt(mode, case, shown)
        solved = [(self._prompt(mode, shot, shot.options), self._answer(mode, shot)) for shot in shots]
        if not self.chat:
            before = "".join(f"{question} {answer}{BETWEEN_SHOTS}" for question, answer in solved)
            return Question(before + prompt, tuple(f" {answer}" for answer in answers))
        turns = [
            {"role": role, "content": content}
            for turn in solved
            for role, content in zip(("user", "assistant"), turn, strict=True)
        ]
        turns.append({"role": "user", "content": prompt})
        return Question(rendered(self.tokenizer, [turns], asking=True)[0], answers)

    def _prompt(self, mode: Mode, case: Case, shown: tuple[str, ...]) -> str:
        options = list(zip(LETTERS, shown, strict=False))
        return self.templates[mode].render(question=case.text, options=options)

    def _answer(self, mode: Mode, shot: Case) -> str:
        label = str(shot.label)
        return shot.options[LETTERS.index(label)] if mode == "text" and shot.options else label


def rotated(options: tuple[str, ...], by: int) -> tuple[str, ...]:
    """Option i at place (i + by) mod K."""
    at = -by % len(options) if options else 0
    return options[at:] + options[:at]


def brings_chat_template(tokenizer: PreTrainedTokenizerBase) -> bool:
    """Whether the model's own folder has a chat template: `load_tokenizer` gives ours to those that have none."""
    folder = Path(str(tokenizer.name_or_path))
    if not folder.is_dir():
        return tokenizer.chat_template not in (None, DEFAULT_CHAT_TEMPLATE)
    if (folder / "chat_template.jinja").is_file():
        return True
    config = folder / "tokenizer_config.json"
    return config.is_file() and bool(json.loads(config.read_text(encoding="utf-8")).get("chat_template"))


def _compiled(mode: Mode, source: str) -> Template:
    """A sandboxed template, tried once, so that a wrong one is told before a model has worked for hours."""
    from jinja2 import StrictUndefined, TemplateError
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    environment = ImmutableSandboxedEnvironment(undefined=StrictUndefined, keep_trailing_newline=True)
    try:
        template = environment.from_string(source)
        rendered = template.render(question="QUESTION", options=[("A", "FIRST"), ("B", "SECOND")])
    except TemplateError as error:
        raise UserError(
            f"choice.{mode}_prompt is no template: {' '.join(str(error).split())}",
            "write Jinja over `question` and `options`, pairs of letter and text",
        ) from error
    if "QUESTION" not in rendered or (mode == "letter" and "SECOND" not in rendered):
        missing = "question" if "QUESTION" not in rendered else "options"
        raise UserError(
            f"choice.{mode}_prompt never shows the {missing}", f"put {{{{ {missing} }}}} into it, or leave it out"
        )
    return template
