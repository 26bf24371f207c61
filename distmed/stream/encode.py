"""Encode: a case becomes tokens, and what the model should answer.

Cases flow in, `Example`s flow out: ids with a label (classify), or ids of which the last ones are the answer (generate).
Nothing is cut here; a token file holds the whole case whatever `seq_len` is.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from distmed.cases import prompts
from distmed.cases.case import Case
from distmed.cases.prompts import Draw, Prompt
from distmed.recipe import Recipe

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

VERSION = 1


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

    def batch(self, cases: Sequence[Case], epoch: int, train: bool) -> list[Example]:
        draws = [Draw(self.seed, epoch, case.id) if train and self.augments else None for case in cases]
        if self.task == "classify":
            ids = self._summarised([self.prompt.text(case, draw) for case, draw in zip(cases, draws, strict=True)])
            starts = [len(each) for each in ids]
        else:
            ids, starts = self._chats(
                [self.prompt.messages(case, draw) for case, draw in zip(cases, draws, strict=True)]
            )
        return [
            Example(case.id, each, start, -1 if case.label is None else self.label_index.get(case.label, -1))
            for case, each, start in zip(cases, ids, starts, strict=True)
        ]

    def _summarised(self, texts: list[str]) -> list[NDArray[np.int32]]:
        """Ids that end with a token which is the same for all cases: a decoder is pooled there."""
        eos = self.tokenizer.eos_token_id
        ends = {eos, self.tokenizer.sep_token_id}
        rows = self._tokenize(texts, add_special_tokens=True)["input_ids"]
        for row in rows:
            if eos is not None and (not row or row[-1] not in ends):
                row.append(eos)
            elif not row:
                row.append(self.tokenizer.pad_token_id or 0)
        return [np.array(row, dtype=np.int32) for row in rows]

    def _chats(self, chats: list[list[dict[str, str]]]) -> tuple[list[NDArray[np.int32]], list[int]]:
        """Ids of whole chats, and where in them the answer begins; at the end if a chat has none."""
        wholes = [self._render(chat) for chat in chats]
        prompts = [
            self._render(chat[:-1], add_generation_prompt=True) if chat[-1]["role"] == "assistant" else whole
            for chat, whole in zip(chats, wholes, strict=True)
        ]
        encoded = self._tokenize(wholes, return_offsets_mapping=self.tokenizer.is_fast)
        ids = encoded["input_ids"]
        starts = []
        for number, head in enumerate(self._tokenize(prompts)["input_ids"]):
            if ids[number][: len(head)] == head:
                start = len(head)
            elif self.tokenizer.is_fast:
                border = _common(wholes[number], prompts[number])
                ends = [end for _, end in encoded["offset_mapping"][number]]
                start = next((place for place, end in enumerate(ends) if end > border), len(ends))
            else:
                start = _common(ids[number], head)
            starts.append(max(1, start))  # the first token follows nothing, so it cannot be predicted
        return [np.array(row, dtype=np.int32) for row in ids], starts

    def _render(self, chat: list[dict[str, str]], **options: Any) -> str:
        return str(self.tokenizer.apply_chat_template(chat, tokenize=False, **options))

    def _tokenize(self, texts: list[str], add_special_tokens: bool = False, **options: Any) -> Any:
        """Without truncation. A chat template writes the special tokens itself."""
        return self.tokenizer(
            texts,
            add_special_tokens=add_special_tokens,
            truncation=False,
            return_attention_mask=False,
            return_token_type_ids=False,
            verbose=False,
            **options,
        )


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


def _common(a: Sequence[Any], b: Sequence[Any]) -> int:
    """Length of the common start."""
    return next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))
