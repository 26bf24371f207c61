"""Encode: a case becomes tokens, and what the model should answer.

Cases flow in, `Example`s flow out: ids with a label (classify), or ids of which the last ones are the answer (generate).
Nothing is cut here; a token file holds the whole case whatever `seq_len` is.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import chain, pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from distmed.cases import prompts
from distmed.cases.case import Asked, Case
from distmed.cases.prompts import Draw, Prompt
from distmed.recipe import Recipe

if TYPE_CHECKING:
    from tokenizers import Encoding, Tokenizer
    from transformers import PreTrainedTokenizerBase

VERSION = 2


@dataclass(frozen=True)
class Example:
    """`input_ids` from `target_start` on are the answer (in classify there is none). `label`: -1 is none of the set."""

    case_id: str
    input_ids: NDArray[np.int32]
    target_start: int
    label: int

    @property
    def is_target(self) -> NDArray[np.bool_]:
        return np.arange(len(self.input_ids)) >= self.target_start


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

    def batch(self, cases: Sequence[Case | Asked], epoch: int, train: bool) -> list[Example]:
        return [
            Example(case.id, each, start, -1 if case.label is None else self.label_index.get(case.label, -1))
            for case, each, start in zip(cases, *self.ids(cases, epoch, train), strict=True)
        ]

    def ids(
        self, cases: Sequence[Case | Asked], epoch: int, train: bool
    ) -> tuple[list[NDArray[np.int32]], Sequence[int]]:
        """The ids of each case, and where in them the answer starts."""
        draws = [Draw(self.seed, epoch, case.id) if train and self.augments else None for case in cases]
        if self.task == "classify":
            ids = self._summarised([self.prompt.text(case, draw) for case, draw in zip(cases, draws, strict=True)])
            return ids, [len(each) for each in ids]
        return self._chats([self.prompt.messages(case, draw) for case, draw in zip(cases, draws, strict=True)])

    def _summarised(self, texts: list[str]) -> list[NDArray[np.int32]]:
        """Ids that end with a token which is the same for all cases: a decoder is pooled there."""
        eos = self.tokenizer.eos_token_id
        ends = {eos, self.tokenizer.sep_token_id}
        if self.tokenizer.is_fast:
            rows = [encoding.ids for encoding in self._backend.encode_batch_fast(texts, add_special_tokens=True)]
        else:
            rows = self._slowly(texts, add_special_tokens=True)
        for row in rows:
            if eos is not None and (not row or row[-1] not in ends):
                row.append(eos)
            elif not row:
                row.append(self.tokenizer.pad_token_id or 0)
        return _arrays(rows)

    def _chats(self, chats: list[list[dict[str, str]]]) -> tuple[list[NDArray[np.int32]], list[int]]:
        """Ids of whole chats, and where in them the answer begins; at the end if a chat has none."""
        wholes = self._render(chats)
        answered = [number for number, chat in enumerate(chats) if chat[-1]["role"] == "assistant"]
        prompts = list(wholes)
        asked = self._render([chats[number][:-1] for number in answered], add_generation_prompt=True)
        for number, prompt in zip(answered, asked, strict=True):
            prompts[number] = prompt
        # The first token follows nothing, so it cannot be predicted.
        if self.tokenizer.is_fast:
            encodings = self._backend.encode_batch(wholes, add_special_tokens=False)
            starts = [
                max(1, _first_token_after(encoding, whole, _common(whole, prompt)))
                for encoding, whole, prompt in zip(encodings, wholes, prompts, strict=True)
            ]
            return _arrays([encoding.ids for encoding in encodings]), starts
        rows, heads = self._slowly(wholes), self._slowly(prompts)
        starts = [max(1, _common(row, head)) for row, head in zip(rows, heads, strict=True)]
        return _arrays(rows), starts

    def _render(self, chats: list[list[dict[str, str]]], **options: Any) -> list[str]:
        """Chats as text. A chat template writes the special tokens itself."""
        texts: Any = self.tokenizer.apply_chat_template(chats, tokenize=False, **options) if chats else []
        return list(texts)

    @cached_property
    def _backend(self) -> Tokenizer:
        """The tokenizer without the Python around it, and without truncation or padding."""
        from tokenizers import Tokenizer

        backend = Tokenizer.from_str(self.tokenizer.backend_tokenizer.to_str())
        backend.no_truncation()
        backend.no_padding()
        return backend

    def _slowly(self, texts: list[str], add_special_tokens: bool = False) -> list[list[int]]:
        """By a tokenizer that is written in Python."""
        options = {"truncation": False, "return_attention_mask": False, "return_token_type_ids": False}
        encoded = self.tokenizer(texts, add_special_tokens=add_special_tokens, verbose=False, **options)
        return list(encoded["input_ids"])

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name != "_backend"}


def _arrays(rows: list[list[int]]) -> list[NDArray[np.int32]]:
    """Each row as an array: views of one, which is made at once."""
    ends = np.cumsum([len(row) for row in rows]).tolist()
    flat = np.fromiter(chain.from_iterable(rows), np.int32, ends[-1] if ends else 0)
    return [flat[begin:end] for begin, end in pairwise([0, *ends])]


def augments(recipe: Recipe) -> bool:
    """Whether the tokens of a training case differ from epoch to epoch."""
    return recipe.data.drop_findings > 0 or recipe.data.shuffle_findings


def tokenizer_hash(tokenizer: PreTrainedTokenizerBase) -> str:
    """Of all that makes text into ids: vocabulary, merges, normalisation, special tokens, chat template."""
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
