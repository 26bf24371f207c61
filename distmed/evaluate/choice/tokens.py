"""From words to token ids, split into what is given and what is scored exactly as lm-evaluation-harness splits them.

Questions flow in, `Request`s flow out. Prompt and answer are tokenized together and cut where the prompt alone ends; a space at
the end of a prompt goes to the answer, since most vocabularies have words with the space before them.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, NamedTuple

from distmed.evaluate.choice.questions import Question

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

Tokens = list[int]


class Request(NamedTuple):
    """The likelihood of `answer` after `prompt` is asked for; each has at least one token."""

    prompt: Tokens
    answer: Tokens

    @property
    def read(self) -> int:
        """How many tokens the model reads for it: the last one is only predicted."""
        return len(self.prompt) + len(self.answer) - 1


class Splitter:
    """Tokenizes questions. A beginning-of-text token is added where the tokenizer would, an end never is.

    A chat's prompt holds its special tokens as text already.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, chat: bool) -> None:
        self.tokenizer = tokenizer
        bos = tokenizer.bos_token_id
        first = tokenizer("a")["input_ids"][:1]
        self.start: Tokens = [bos] if bos is not None and first == [bos] and not chat else []
        self.bos_text = str(tokenizer.bos_token or "")
        # What a prompt without a token is replaced by.
        self.nothing: Tokens = [bos if bos is not None else tokenizer.eos_token_id or 0]

    def __call__(self, questions: list[Question]) -> list[list[Request]]:
        """One request for each answer of each question."""
        moved = [_space_to_answers(question) for question in questions]
        ids = self._ids(
            text for prompt, answers in moved for text in (prompt, *answers, *(prompt + answer for answer in answers))
        )
        return [[self._request(ids, prompt, answer) for answer in answers] for prompt, answers in moved]

    def _request(self, ids: dict[str, Tokens], prompt: str, answer: str) -> Request:
        before = ids[prompt]
        # Where the end of the prompt melts into the answer's first token, nothing may be left: then the answer stands alone.
        scored = ids[prompt + answer][len(before) :] or ids[answer]
        start = [] if self.bos_text and prompt.startswith(self.bos_text) else self.start
        return Request(start + before or self.nothing, scored or self.nothing)

    def _ids(self, texts: Iterable[str]) -> dict[str, Tokens]:
        distinct = list(dict.fromkeys(texts))
        encoded = self.tokenizer(
            distinct,
            add_special_tokens=False,
            truncation=False,
            return_attention_mask=False,
            return_token_type_ids=False,
            verbose=False,
        )["input_ids"]
        return dict(zip(distinct, encoded, strict=True))


def cut(request: Request, limit: int) -> Request:
    """The request with the oldest tokens of its prompt left out, its first one kept, so that `limit` tokens are read."""
    keep = max(limit - len(request.answer) + 1, 1)
    prompt = request.prompt
    if len(prompt) <= keep:
        return request
    return Request(prompt[:1] + prompt[len(prompt) - keep + 1 :], request.answer)


def _space_to_answers(question: Question) -> Question:
    prompt = question.prompt.rstrip()
    space = question.prompt[len(prompt) :]
    return Question(prompt, tuple(space + answer for answer in question.answers)) if space else question
