"""The likelihood of each candidate answer after a prompt, in one pass over a tree: the prompt once, then every answer.

Token ids flow in, `Tree` batches go through a Diagnoser, sums of log-likelihoods come out. An answer sees the prompt
and itself, at the positions it would have alone, so its score is that of the answer alone.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

# B: rows, L: padded length, T: answer tokens, N: prompts, K: answers of a prompt.
Tokens = Sequence[int]


@dataclass(frozen=True)
class Tree:
    """Rows of a prompt with some of its answers. `branch_ids_BL` is 0 in the prompt and 1.. in the answers.

    `target_index_T` are flat positions (row * L + column) whose next token is `target_ids_T`; `score_index_T` is the
    flat place (prompt * K + answer) in the table of scores to which that token counts.
    """

    input_ids_BL: Tensor
    position_ids_BL: Tensor
    segment_ids_BL: Tensor
    branch_ids_BL: Tensor
    target_index_T: Tensor
    target_ids_T: Tensor
    score_index_T: Tensor

    def to(self, device: torch.device) -> Tree:
        moved = {f.name: getattr(self, f.name).to(device, non_blocking=True) for f in dataclasses.fields(self)}
        return Tree(**moved)


@dataclass
class _Row:
    """A row while it grows: the last token of an answer is only predicted, never read, so it takes no place."""

    prompt: Tokens
    answers: list[tuple[int, Tokens]]

    @property
    def length(self) -> int:
        return len(self.prompt) + sum(len(answer) - 1 for _, answer in self.answers)


def plant(
    prompts: Sequence[Tokens], answers: Sequence[Sequence[Tokens]], *, rows: int, max_length: int, pad_id: int
) -> list[Tree]:
    """Lay out N prompts with K answers each as trees of at most `rows` rows.

    A row grows to `max_length` tokens, then the prompt's other answers go into another one. The number of trees is the
    number of forward passes, known here, before any: under ZeRO-3 all workers must run equally many (see `score`).
    """
    grown: list[_Row] = []
    for number, (prompt, choices) in enumerate(zip(prompts, answers, strict=True)):
        if not prompt or not all(choices):
            raise ValueError("a prompt and its answers need at least one token each")
        row = _Row(prompt, [])
        for choice, answer in enumerate(choices):
            if row.answers and row.length + len(answer) - 1 > max_length:
                grown.append(row)
                row = _Row(prompt, [])
            row.answers.append((number * len(choices) + choice, answer))
        grown.append(row)
    return [_tree(grown[start : start + rows], pad_id) for start in range(0, len(grown), rows)]


def _tree(rows: list[_Row], pad_id: int) -> Tree:
    length = max(row.length for row in rows)
    ids, positions, segments, branches = (torch.zeros(len(rows), length, dtype=torch.long) for _ in range(4))
    ids.fill_(pad_id)
    index: list[int] = []
    targets: list[int] = []
    scores: list[int] = []
    for r, row in enumerate(rows):
        prompt_length = len(row.prompt)
        ids[r, :prompt_length] = torch.as_tensor(row.prompt)
        positions[r, :prompt_length] = torch.arange(prompt_length)
        segments[r, : row.length] = 1
        column = prompt_length
        for branch, (score, answer) in enumerate(row.answers, start=1):
            end = column + len(answer) - 1
            ids[r, column:end] = torch.as_tensor(answer[:-1], dtype=torch.long)
            positions[r, column:end] = torch.arange(prompt_length, prompt_length + len(answer) - 1)
            branches[r, column:end] = branch
            index += [r * length + at for at in (prompt_length - 1, *range(column, end))]
            targets += answer
            scores += [score] * len(answer)
            column = end
    return Tree(ids, positions, segments, branches, *(torch.tensor(part) for part in (index, targets, scores)))


def score(
    model: Callable[..., Tensor],
    trees: list[Tree],
    shape: tuple[int, int],
    device: torch.device,
    passes: int | None = None,
) -> tuple[Tensor, Tensor]:
    """(log-likelihood [N, K], number of tokens [N, K]) of every answer: divide the two for a length-normalised score.

    `model` makes the passes of a Diagnoser or of an engine around one. `passes`: the largest number of trees on any worker; a
    worker with fewer repeats a pass and throws the result away.
    """
    total_S = torch.zeros(shape[0] * shape[1], dtype=torch.float32, device=device)
    tokens_S = torch.zeros_like(total_S)
    spare = _tree([_Row([0], [(0, [0])])], pad_id=0)
    with torch.no_grad():
        for number in range(max(len(trees), passes or 0)):
            real = number < len(trees)
            tree = (trees[number] if real else spare).to(device)
            log_p_T = -model(tree, label_smoothing=0.0)
            if real:
                total_S.index_add_(0, tree.score_index_T, log_p_T)
                tokens_S.index_add_(0, tree.score_index_T, torch.ones_like(log_p_T))
    return total_S.view(shape), tokens_S.view(shape)
