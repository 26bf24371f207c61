"""The format `columns`: any table becomes cases by naming which column plays which role.

A recipe's `columns: {role: column}` flows in, a function from row to case flows out. `text` and `label` make a
diagnosis, `options` and `answer` an exam question, `messages` (or `text` and `answer`) a dialogue.
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Callable
from typing import Any

from distmed.cases.case import Case
from distmed.cases.demographics import age_in_years, sex_of
from distmed.cases.rows import Row, RowError, text_of
from distmed.errors import UserError

LETTERS = "ABCDEFGHIJ"
ROLES = ("text", "label", "label_name", "id", "group", "sex", "age", "messages", "options", "answer")
SUBGROUP = "subgroup."
DEFAULT = {"text": "text", "label": "label"}


def check_roles(columns: dict[str, str], *, labeled: bool = True) -> dict[str, str]:
    """The roles of a recipe; `text` and `label` by those names if it gives none.

    Raises UserError for an unknown role, or where nothing to read is named or, if cases must be `labeled`, nothing to learn.
    """
    if not columns:
        return DEFAULT
    for role in columns:
        if role not in ROLES and not (role.startswith(SUBGROUP) and len(role) > len(SUBGROUP)):
            near = difflib.get_close_matches(role, ROLES, n=1)
            hint = f"did you mean `{near[0]}`?" if near else f"roles are {', '.join(ROLES)} and {SUBGROUP}NAME"
            raise UserError(f"columns: unknown role `{role}`", hint)
    if "text" not in columns and "messages" not in columns:
        raise UserError("columns: neither `text` nor `messages` is named", "name a column for one of them")
    if labeled and not {"label", "answer", "messages"} & set(columns):
        raise UserError("columns: nothing to learn is named", "name a column for `label`, `answer` or `messages`")
    return columns


def by_columns(columns: dict[str, str], *, answered: bool = True) -> Callable[[Row], Case]:
    """The function from row to case for checked roles; unless `answered`, a dialogue may lack its answer."""
    subgroups = {role.removeprefix(SUBGROUP): column for role, column in columns.items() if role.startswith(SUBGROUP)}

    def to_case(row: Row) -> Case:
        def cell(role: str) -> Any:
            return row.get(columns[role]) if role in columns else None

        def words(role: str) -> str | None:
            return text_of(cell(role), columns.get(role, ""))

        text = words("text")
        if text is None and "messages" not in columns:
            raise RowError(f"has no text in column `{columns['text']}`", "fill it in, or take the row out")
        options = _options(cell("options"), columns.get("options", ""))
        messages = _messages(cell("messages"), columns["messages"], answered) if "messages" in columns else ()
        label, answer = words("label"), words("answer")
        if options:
            label = _letter(answer or label, options, columns.get("answer") or columns.get("label", ""))
        elif "answer" in columns and not messages:
            if answer is None and answered:
                raise RowError(f"has no answer in column `{columns['answer']}`", "fill it in, or take the row out")
            messages = (("user", text or ""), ("assistant", answer or ""))
        return Case(
            id=words("id") or "",
            group=words("group") or "",
            kind="choice" if options else "dialogue" if messages else "diagnosis",
            text=text or _question(messages),
            sex=sex_of(cell("sex")),
            age_years=age_in_years(cell("age")),
            label=label,
            label_name=label if options else words("label_name") or label,
            options=options,
            messages=messages,
            subgroups={
                name: value for name, column in subgroups.items() if (value := text_of(row.get(column), column))
            },
        )

    return to_case


def labeled(columns: dict[str, str]) -> bool:
    """Whether each row owes a label."""
    return "label" in columns or "options" in columns


def parsed(value: Any) -> Any:
    """A list, also where a CSV holds it as JSON text."""
    if isinstance(value, str | bytes):
        try:
            return json.loads(value)
        except (ValueError, RecursionError):
            return None
    return value


def _options(value: Any, column: str) -> tuple[str, ...]:
    if not column:
        return ()
    options = parsed(value)
    if not isinstance(options, list) or not 2 <= len(options) <= len(LETTERS):
        raise RowError(
            f"holds no list of 2 to {len(LETTERS)} options in column `{column}`", 'write options as a list: ["…", "…"]'
        )
    return tuple(str(option).strip() for option in options)


def _letter(answer: str | None, options: tuple[str, ...], column: str) -> str | None:
    """The letter of the right option, given as a letter or as the option's text. An index could count from 0 or 1."""
    if answer is None:
        return None
    by_text = LETTERS[options.index(answer)] if answer in options else None
    by_letter = answer.upper() if len(answer) == 1 and answer.upper() in LETTERS[: len(options)] else None
    if by_text and by_letter and by_text != by_letter:
        raise RowError(
            f"answers in column `{column}` with a letter that is also the text of another option",
            "write such options in more than a letter (blood group A), and the answer as its text",
        )
    if letter := by_text or by_letter:
        return letter
    raise RowError(
        f"answers with none of its options in column `{column}`", "give the option's letter (A, B, …) or its text"
    )


def _messages(value: Any, column: str, answered: bool) -> tuple[tuple[str, str], ...]:
    messages = parsed(value)
    how = (
        'messages are a list of {"role": "user" or "assistant" or "system", "content": …}, the last from the assistant'
    )
    if not isinstance(messages, list) or not messages:
        raise RowError(f"holds no list of messages in column `{column}`", how)
    pairs = []
    for message in messages:
        if not isinstance(message, dict) or not isinstance(message.get("content"), str):
            raise RowError(f"holds a message without role and content in column `{column}`", how)
        if message.get("role") not in ("system", "user", "assistant"):
            raise RowError(f"holds a message of unknown role in column `{column}`", how)
        pairs.append((message["role"], message["content"]))
    if answered and (pairs[-1][0] != "assistant" or not pairs[-1][1].strip()):
        raise RowError(f"has no answer of the assistant at the end of column `{column}`", how)
    return tuple(pairs)


def _question(messages: tuple[tuple[str, str], ...]) -> str:
    return "\n".join(content for role, content in messages[:-1] if role == "user")
