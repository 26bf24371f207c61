"""Encode: a case becomes tokens, and what the model should answer.

Cases flow in, `Example`s flow out: ids with a label (classify), or ids of which the last ones are the answer (generate).
Nothing is cut here; a token file holds the whole case whatever `seq_len` is.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import chain, islice
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from distmed.cases import prompts
from distmed.cases.case import Asked, Case
from distmed.cases.chats import DAY, rendered, writes_the_day
from distmed.cases.prompts import Draw, Prompt
from distmed.recipe import Recipe

if TYPE_CHECKING:
    from tokenizers import Encoding, Tokenizer
    from transformers import PreTrainedTokenizerBase

Ints = NDArray[np.int64]

VERSION = 2

_ANSWER = "answer"

AT_ONCE = 64
"""Cases tokenised in one call: what a tokenizer makes of a thousand no longer fits into a processor's cache."""


@dataclass(frozen=True)
class Example:
    """`input_ids` from `target_start` on are the answer (in classify there is none). `label`: -1 is none of the set."""

    case_id: str
    input_ids: NDArray[np.int32]
    target_start: int
    label: int


class Encode:
    """The encoding of a recipe with a tokenizer; the same in any process. Call it with a case, or `batch` with many."""

    def __init__(self, recipe: Recipe, tokenizer: PreTrainedTokenizerBase, label_index: Mapping[str, int]) -> None:
        self.task = recipe.task
        self.seed = recipe.train.seed
        self.augments = augments(recipe)
        self.prompt = Prompt(recipe.task, recipe.data)
        self.tokenizer = tokenizer
        self.label_index = label_index

    def __call__(self, case: Case, epoch: int, train: bool) -> Example:
        return self.batch([case], epoch, train)[0]

    def batch(self, cases: Sequence[Case], epoch: int, train: bool) -> list[Example]:
        ids_N, size_C, start_C = self.tokens_and_starts(cases, epoch, train)
        of_case = np.split(ids_N, np.cumsum(size_C))[:-1]
        return [
            Example(case.id, ids, start, -1 if case.label is None else self.label_index.get(case.label, -1))
            for case, ids, start in zip(cases, of_case, start_C.tolist(), strict=True)
        ]

    def tokens(self, cases: Iterable[Case | Asked], epoch: int, train: bool) -> tuple[NDArray[np.int32], Ints]:
        """(ids of all cases in a row, how many each has): all that is wanted where it is known where the answers start."""
        some = self._summarised if self.task == "classify" else self._whole_chats
        return _joined([some(prompts) for prompts in self._prompts(cases, epoch, train)])

    def tokens_and_starts(
        self, cases: Iterable[Case | Asked], epoch: int, train: bool
    ) -> tuple[NDArray[np.int32], Ints, Ints]:
        """(ids of all cases in a row, how many each has, where in each the answer starts)."""
        if self.task == "classify":
            ids_N, size_C = self.tokens(cases, epoch, train)
            return ids_N, size_C, size_C
        return _joined([self._chats(prompts) for prompts in self._prompts(cases, epoch, train)])

    def _prompts(self, cases: Iterable[Case | Asked], epoch: int, train: bool) -> Iterator[list[Any]]:
        """Texts (classify) or chats, a few cases at a time: neither they nor what a tokenizer makes of them pile up."""
        put = self.prompt.text if self.task == "classify" else self.prompt.messages
        draws = train and self.augments
        prompts = (put(case, Draw(self.seed, epoch, case.id) if draws else None) for case in cases)
        while some := list(islice(prompts, AT_ONCE)):
            yield some

    def _summarised(self, texts: list[str]) -> tuple[NDArray[np.int32], Ints]:
        """Ids that end with a token which is the same for all cases: a decoder is pooled there."""
        eos = self.tokenizer.eos_token_id
        ends = {eos, self.tokenizer.sep_token_id}
        rows = self._ids(texts, add_special_tokens=True)
        for row in rows:
            if eos is not None and (not row or row[-1] not in ends):
                row.append(eos)
            elif not row:
                row.append(self.tokenizer.pad_token_id or 0)
        return _in_a_row(rows)

    def _whole_chats(self, chats: list[list[dict[str, str]]]) -> tuple[NDArray[np.int32], Ints]:
        return _in_a_row(self._ids(rendered(self.tokenizer, chats)))

    def _chats(self, chats: list[list[dict[str, str]]]) -> tuple[NDArray[np.int32], Ints, Ints]:
        """Ids of whole chats, and where in each the answer begins; at the end if a chat has none."""
        wholes = rendered(self.tokenizer, chats)
        answered = [number for number, chat in enumerate(chats) if chat[-1]["role"] == "assistant"]
        prompts = list(wholes)
        asked = rendered(self.tokenizer, [chats[number][:-1] for number in answered], asking=True)
        for number, prompt in zip(answered, asked, strict=True):
            prompts[number] = prompt
        # The first token follows nothing, so it cannot be predicted.
        if self.tokenizer.is_fast:
            encodings = self._backend.encode_batch(wholes, add_special_tokens=False)
            starts = [
                max(1, _first_token_after(encoding, whole, _common(whole, prompt)))
                for encoding, whole, prompt in zip(encodings, wholes, prompts, strict=True)
            ]
            rows = [encoding.ids for encoding in encodings]
        else:
            rows, heads = self._ids(wholes), self._ids(prompts)
            starts = [max(1, _common(row, head)) for row, head in zip(rows, heads, strict=True)]
        return *_in_a_row(rows), np.array(starts, dtype=np.int64)

    @cached_property
    def _backend(self) -> Tokenizer:
        """The tokenizer without the Python around it, and without truncation or padding."""
        from tokenizers import Tokenizer

        backend = Tokenizer.from_str(self.tokenizer.backend_tokenizer.to_str())
        backend.no_truncation()
        backend.no_padding()
        return backend

    def _ids(self, texts: list[str], add_special_tokens: bool = False) -> list[list[int]]:
        """Ids alone: where each token lies in its text costs half as much again."""
        if self.tokenizer.is_fast:
            encodings = self._backend.encode_batch_fast(texts, add_special_tokens=add_special_tokens)
            return [encoding.ids for encoding in encodings]
        options = {"truncation": False, "return_attention_mask": False, "return_token_type_ids": False}
        encoded = self.tokenizer(texts, add_special_tokens=add_special_tokens, verbose=False, **options)
        return list(encoded["input_ids"])

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name != "_backend"}


def _in_a_row(rows: list[list[int]]) -> tuple[NDArray[np.int32], Ints]:
    """(all rows, one after the other, how long each is)."""
    size_C = np.array([len(row) for row in rows], dtype=np.int64)
    return np.fromiter(chain.from_iterable(rows), np.int32, int(size_C.sum())), size_C


def _joined(parts: list[Any]) -> Any:
    """Tuples of arrays, joined place by place."""
    return tuple(np.concatenate(arrays) for arrays in zip(*parts, strict=True))


def augments(recipe: Recipe) -> bool:
    """Whether the tokens of a training case differ from epoch to epoch."""
    return recipe.data.drop_findings > 0 or recipe.data.shuffle_findings


def tokenizer_hash(tokenizer: PreTrainedTokenizerBase) -> str:
    """Of all that makes text into ids: vocabulary, merges, normalisation, special tokens, chat template and its day."""
    if tokenizer.is_fast:
        model = json.loads(tokenizer.backend_tokenizer.to_str())
        model["truncation"] = model["padding"] = None  # set by the last call, not by who the tokenizer is
    else:
        model = sorted(tokenizer.get_vocab().items())
    parts = [
        type(tokenizer).__name__,
        json.dumps(model, sort_keys=True),
        str(tokenizer.special_tokens_map),
        str(tokenizer.chat_template),
    ]
    if writes_the_day(tokenizer):
        parts.append(DAY.date().isoformat())
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]


def prompt_hash(recipe: Recipe, train: bool) -> str:
    """Of how a case is put into words. Version numbers stand for the code."""
    data = recipe.data
    spec: list[object] = [VERSION, prompts.VERSION, recipe.task, data.excluded_findings]
    if train and augments(recipe):
        spec += [data.drop_findings, data.shuffle_findings, recipe.train.seed]
    return hashlib.sha256(json.dumps(spec).encode()).hexdigest()[:16]


def _first_token_after(encoding: Encoding, text: str, border: int) -> int:
    """Of a character: the first token that reaches beyond it. One that merges over the border belongs to what follows."""
    for character in range(border, len(text)):
        token = encoding.char_to_token(character)
        if token is not None:
            return int(token)
    return len(encoding.ids)


def _common(a: Sequence[Any], b: Sequence[Any]) -> int:
    """Length of the common start."""
    if len(b) <= len(a) and a[: len(b)] == b:
        return len(b)
    return next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))


def closing_token(tokenizer: PreTrainedTokenizerBase) -> int | None:
    """The token that ends an answer in this tokenizer's chats, such as `<|im_end|>`; None where there is none."""
    from jinja2 import TemplateError

    chat = [{"role": "user", "content": "?"}, {"role": "assistant", "content": _ANSWER}]
    try:
        (whole,) = rendered(tokenizer, [chat])
    except TemplateError:  # of a model that is put no such chats
        return None
    after = whole.rpartition(_ANSWER)[2]
    known = tokenizer.added_tokens_decoder
    return next((token for token in tokenizer(after, add_special_tokens=False)["input_ids"] if token in known), None)
