"""Inference: cases become scores, in batches of like length.

Cases flow in; probabilities over the labels, in the order of the cases, flow out, with a hash and the length of each prompt. A
classifier gives them from its head, a generator from the likelihood of each label's name as an answer. The gold label plays no
part: it is taken away before a prompt is made.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from distmed.cases.case import Case
from distmed.errors import UserError

if TYPE_CHECKING:
    from distmed.evaluate.loading import Loaded
    from distmed.stream.encode import Encode

# N: cases, K: labels.
MASKED = "-"
SHORTEST_ROW = 512
"""A row of candidate answers may grow to so many tokens, even after a short prompt."""
ENDING = 16
"""Tokens at the end of a prompt that stay when it is cut: they tell a generator that it is its turn."""


@dataclass(frozen=True)
class Scores:
    """Probabilities over the labels; of each prompt its hash, its length in tokens before any cut, and whether it was cut."""

    probabilities_NK: NDArray[np.float32]
    prompt_hashes: list[str]
    tokens_N: NDArray[np.int32]
    cut_N: NDArray[np.bool_]


def score_cases(model: Loaded, cases: Sequence[Case]) -> Scores:
    """Score N cases over the model's labels.

    Raises UserError where the model gives scores that are not finite, naming the cases.
    """
    from distmed.stream.encode import Encode

    encode = Encode(model.recipe, model.tokenizer, {})
    prompts, tokens_N = prompts_of(encode, cases, model.recipe.data.seq_len)
    probabilities_NK = _classify(model, prompts) if model.task == "classify" else _weigh_answers(model, encode, prompts)
    broken = np.flatnonzero(~np.isfinite(probabilities_NK).all(axis=1))
    if len(broken):
        named = ", ".join(cases[n].id for n in broken[:3].tolist())
        raise UserError(
            f"the scores of {len(broken)} of {len(cases)} cases are not finite: {named}",
            "the weights have diverged or are damaged: evaluate an earlier checkpoint",
        )
    hashes = [hashlib.blake2b(ids.tobytes(), digest_size=8).hexdigest() for ids in prompts]
    return Scores(probabilities_NK, hashes, tokens_N, tokens_N > model.recipe.data.seq_len)


def prompts_of(encode: Encode, cases: Sequence[Case], limit: int) -> tuple[list[NDArray[np.int32]], NDArray[np.int32]]:
    """(token ids of each prompt, cut to `limit`, its length before). The label is masked, so that no prompt can hold it."""
    masked = [replace(case, label=MASKED, label_name=MASKED) for case in cases]
    examples = encode.batch(masked, 0, False)
    prompts = [example.input_ids[: example.target_start] for example in examples]
    tokens_N = np.array([len(ids) for ids in prompts], dtype=np.int32)
    ending = 1 if encode.task == "classify" else ENDING
    return [_cut(ids, limit, ending) for ids in prompts], tokens_N


def batches(tokens: Sequence[int], budget: int) -> Iterator[list[int]]:
    """Places of prompts by like length, longest first, so many that rows x longest stays within the budget."""
    order = sorted(range(len(tokens)), key=lambda n: -tokens[n])
    at = 0
    while at < len(order):
        rows = max(1, budget // max(1, tokens[order[at]]))
        yield order[at : at + rows]
        at += rows


def answer_ids(encode: Encode, label_name: str) -> list[int]:
    """The token ids a generator should write for a label."""
    case = Case(id="answer", kind="diagnosis", group="answer", text="?", label=label_name, label_name=label_name)
    example = encode(case, 0, False)
    return [int(token) for token in example.input_ids[example.target_start :]]


def _cut(ids: NDArray[np.int32], limit: int, ending: int) -> NDArray[np.int32]:
    """A prompt keeps its beginning and its last tokens: where a classifier pools, and where a chat says who speaks next."""
    ending = min(ending, limit - 1)
    return ids if len(ids) <= limit else np.concatenate([ids[: limit - ending], ids[-ending:]])


def _classify(model: Loaded, prompts: list[NDArray[np.int32]]) -> NDArray[np.float32]:
    import torch

    from distmed.stream.batch import Item, collate

    pad_id = model.tokenizer.pad_token_id or 0
    found_NK = np.empty((len(prompts), len(model.labels)), np.float32)
    with torch.inference_mode():
        for places in batches([len(ids) for ids in prompts], model.token_budget):
            rows = [[Item(prompts[n], len(prompts[n]), -1, 0.0, "", n)] for n in places]
            batch = collate(rows, seq_len=model.recipe.data.seq_len, pad_id=int(pad_id), targets=False)
            logits_CK = model.diagnoser(batch.to(model.device))
            found_NK[places] = torch.softmax(logits_CK.float(), dim=-1).cpu().numpy()
    return found_NK


def _weigh_answers(model: Loaded, encode: Encode, prompts: list[NDArray[np.int32]]) -> NDArray[np.float32]:
    """The softmax over the labels of the log-likelihood of their names, a prompt read once for all of them."""
    import torch

    from distmed.model.candidates import plant, score

    answers = [answer_ids(encode, name) for name in model.label_names]
    longest = max(SHORTEST_ROW, *map(len, prompts)) + max(map(len, answers))
    order = sorted(range(len(prompts)), key=lambda n: -len(prompts[n]))
    trees = plant(
        [prompts[n].tolist() for n in order],
        [answers] * len(order),
        rows=max(1, model.token_budget // longest),
        max_length=longest,
        pad_id=int(model.tokenizer.pad_token_id or 0),
    )
    log_likelihood_NK, _ = score(model.diagnoser, trees, (len(order), len(answers)), model.device)
    found_NK = np.empty((len(prompts), len(answers)), np.float32)
    found_NK[order] = torch.softmax(log_likelihood_NK, dim=-1).cpu().numpy()
    return found_NK
