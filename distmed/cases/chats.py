"""Chats as text: messages and a tokenizer flow in, what its chat template makes of them flows out.

Some templates write today's date (Llama 3's "Today Date: …"). Here it is always the same day, so that training, evaluation
and a resume make the same tokens of the same case, whenever they run.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from distmed.cases.prompts import Message

DAY = datetime(2024, 7, 26)
"""The day that Llama's own templates name where they are not told another."""

# transformers hands no functions to a template, so the template is given one of its own: directive by directive.
_DIRECTIVES = [(f"%{letter}", DAY.strftime(f"%{letter}")) for letter in "aAbBcdDeFHIjmMpSTuUVwWxXyYzZ%"]
_REPLACED = "".join(f" | replace('{directive}', '{value}')" for directive, value in _DIRECTIVES)
_DATED = f"{{% macro strftime_now(format) %}}{{{{ format{_REPLACED} }}}}{{% endmacro %}}\n"


def rendered(tokenizer: PreTrainedTokenizerBase, chats: Sequence[list[Message]], *, asking: bool = False) -> list[str]:
    """Each chat as text, with its special tokens; `asking`: up to where the assistant's answer begins."""
    if not chats:
        return []
    options: dict[str, Any] = (
        {"chat_template": _DATED + tokenizer.get_chat_template()} if writes_the_day(tokenizer) else {}
    )
    texts: Any = tokenizer.apply_chat_template(list(chats), tokenize=False, add_generation_prompt=asking, **options)
    return list(texts)


def writes_the_day(tokenizer: PreTrainedTokenizerBase) -> bool:
    return "strftime_now" in str(tokenizer.chat_template)
