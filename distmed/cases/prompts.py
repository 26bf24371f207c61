"""Prompts: what a model reads of a case, and what it should write.

A case flows in; text flows out for `classify`, chat messages for `generate`. In training, findings are dropped and
shuffled by a `Draw`, a random stream that depends on seed, epoch and case alone, so that any worker at any time makes
the same prompt.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from distmed.cases.case import Asked, Case
from distmed.cases.columns import LETTERS
from distmed.cases.demographics import age_words
from distmed.recipe import Data

VERSION = 1
"""Part of what a stream position is a function of: raise it with any change of wording."""

Message = dict[str, str]

_DIAGNOSE = "Which disease does this patient most likely have? Answer with its name only."
_CHOOSE = "Answer with the letter of the right option only."

DEFAULT_CHAT_TEMPLATE = """\
{{ bos_token or '' }}
{%- for message in messages %}
{{- '<|' + message['role'] + '|>\\n' + message['content'] -}}
{{- eos_token if message['role'] == 'assistant' else '\\n' -}}
{% endfor %}
{{- '<|assistant|>\\n' if add_generation_prompt else '' -}}"""
"""For a tokenizer without a chat template. Each message begins with a line that names its role; an answer ends with the
tokenizer's end-of-sequence token, so that the model learns to stop:

    <|user|>
    Which disease …
    <|assistant|>
    gout</s>
"""


def lettered(case: Case | Asked) -> str:
    """A question with its options, each behind its letter."""
    options = (f"{letter}) {option}" for letter, option in zip(LETTERS, case.options, strict=False))
    return "\n".join((case.text, *options))


class Draw:
    """Which findings of a case stay, and in which order, in one epoch.

    Philox (Salmon et al. 2011, doi:10.1145/2063384.2063405) keyed by a hash of seed, epoch and case id: no state to
    save, and the same on every worker and machine.
    """

    def __init__(self, seed: int, epoch: int, case_id: str) -> None:
        digest = hashlib.blake2b(f"{seed}\0{epoch}\0{case_id}".encode(), digest_size=16).digest()
        self._random = np.random.Generator(np.random.Philox(key=np.frombuffer(digest, dtype="<u8")))

    def findings(self, findings: Sequence[str], drop: float, shuffle: bool, keep: int = 0) -> tuple[str, ...]:
        """Each finding stays with probability 1 - drop, at least `keep` of them do; in a random order if `shuffle`."""
        survival, order = self._random.random((2, len(findings))).tolist()
        staying = [i for i, u in enumerate(survival) if u >= drop]
        if len(staying) < keep:
            staying = sorted(sorted(range(len(findings)), key=survival.__getitem__)[-keep:])
        if shuffle:
            staying.sort(key=order.__getitem__)
        return tuple(findings[i] for i in staying)


@dataclass(frozen=True)
class Prompt:
    """How the cases of a run are put to a model. Without a draw, all findings in their own order: as in evaluation."""

    task: Literal["classify", "generate"]
    data: Data

    def text(self, case: Case | Asked, draw: Draw | None = None) -> str:
        """What a classifier reads: the vignette or question as it is, or else sex, age and findings in few tokens.

        Findings come before what was not found, so that a cut at the right loses the least.
        """
        if case.kind == "choice" and case.options:
            return lettered(case)
        return case.text or self._from_findings(case, draw)

    def messages(self, case: Case | Asked, draw: Draw | None = None) -> list[Message]:
        """Chat messages, the assistant's answer last; without it if the case has no label."""
        if case.messages:
            return [{"role": role, "content": content} for role, content in case.messages]
        text = self.text(case, draw)
        if case.kind == "diagnosis":
            text = f"{_DIAGNOSE}\n{text}"
        elif case.options:
            text = f"{text}\n{_CHOOSE}"
        question = [{"role": "user", "content": text}]
        if case.label_name is None:
            return question
        return [*question, {"role": "assistant", "content": self.answer(case.label_name)}]

    def answer(self, label_name: str) -> str:
        """What the assistant writes for a label: also the candidates over which a generator is scored."""
        return label_name

    def _from_findings(self, case: Case | Asked, draw: Draw | None) -> str:
        findings: Sequence[str] = case.findings
        excluded: Sequence[str] = case.excluded if self.data.excluded_findings else ()
        if draw is not None and (self.data.drop_findings or self.data.shuffle_findings):
            drop, shuffle = self.data.drop_findings, self.data.shuffle_findings
            findings = draw.findings(findings, drop, shuffle, keep=1)
            excluded = draw.findings(excluded, drop, shuffle)
        who = ", ".join(filter(None, (case.sex, age_words(case.age_years) if case.age_years is not None else None)))
        parts = (who, "; ".join(findings), f"Not found: {'; '.join(excluded)}" if excluded else "")
        return ". ".join(part for part in parts if part)
