"""Requests that begin alike share what they have in common: rows are tries of tokens, read in one pass.

`Request`s flow in, `Trie` batches flow out. A token sees its ancestors only, at the position it has on its path, so that each
request gets the likelihood it has alone. Options share their question, questions share their solved examples.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor

from distmed.evaluate.choice.tokens import Request, Tokens

# B: rows, L: padded length, U: positions whose next token is asked for, T: answer tokens.


@dataclass(frozen=True)
class Trie:
    """Rows of tokens in depth-first order: the subtree of column j ends before column `end_BL[j]`.

    `read_U` are flat positions (row * L + column), ascending. Answer token t has id `target_ids_T[t]`, stands after position
    `read_U[place_T[t]]` (ascending) and counts for request `request_T[t]`. Without `branches` every row is one path.
    """

    input_ids_BL: Tensor
    position_ids_BL: Tensor
    end_BL: Tensor
    read_U: Tensor
    place_T: Tensor
    target_ids_T: Tensor
    request_T: Tensor
    branches: bool

    def to(self, device: torch.device) -> Trie:
        tensors = {f.name: getattr(self, f.name) for f in dataclasses.fields(self) if f.name != "branches"}
        return Trie(**{k: v.to(device, non_blocking=True) for k, v in tensors.items()}, branches=self.branches)


class _Path(NamedTuple):
    """What is read for one request: the last token of an answer is only predicted."""

    tokens: Tokens
    number: int
    request: Request


@dataclass
class _Row:
    ids: list[int] = field(default_factory=list)
    depths: list[int] = field(default_factory=list)
    ends: list[int] = field(default_factory=list)
    reads: list[tuple[int, int, int]] = field(default_factory=list)  # column, target, request
    branches: bool = False


def plant(
    units: Sequence[Sequence[Request]], *, hidden_size: int, budget: int, pad_id: int, branching: bool = True
) -> list[Trie]:
    """Lay out requests, numbered through all units, as tries of at most `budget` padded tokens (or one row).

    A unit is the requests of one question: they lie in one row. Without `branching` each row is one path, for
    architectures whose masks are not known.
    """
    numbers = iter(range(sum(map(len, units))))
    paths = [
        sorted(_Path(request.prompt + request.answer[:-1], next(numbers), request) for request in unit)
        for unit in units
        if unit
    ]
    rows = _tries(paths, hidden_size) if branching else _lines(paths)
    rows.sort(key=lambda row: -len(row.ids))
    tries, start = [], 0
    while start < len(rows):
        count = max(1, budget // len(rows[start].ids))
        tries.append(_trie(rows[start : start + count], pad_id))
        start += count
    return tries


def _tries(units: list[list[_Path]], hidden_size: int) -> list[_Row]:
    """Several units to a row where they share a long prefix.

    With a prefix of P tokens and r tokens of their own, the work of a row of a decoder is, for each layer,
    24 D² (P + r) for matrix products and 4 D (P + r)² for attention (Kaplan et al. 2020, arXiv:2001.08361, table 1); that
    over r is least at r = sqrt(P (6 D + P)).
    """
    if not units:
        return []
    shared = _common(min(unit[0].tokens for unit in units), max(unit[-1].tokens for unit in units))
    own = math.sqrt(shared * (6 * hidden_size + shared))
    sized = sorted(((_size(unit) - shared, number) for number, unit in enumerate(units)), reverse=True)
    rows, held, room = [], list[_Path](), 0.0
    for size, number in sized:
        if held and size > room:
            rows.append(_row(held))
            held = []
        room = (room if held else own) - size
        held = held + units[number]
    return [*rows, _row(held)]


def _lines(units: list[list[_Path]]) -> list[_Row]:
    """One row for every path that is not the beginning of another one."""
    rows, held = [], list[_Path]()
    for path in sorted(path for unit in units for path in unit):
        if held and path.tokens[: len(held[-1].tokens)] != held[-1].tokens:
            rows.append(_row(held))
            held = []
        held.append(path)
    return [*rows, _row(held)] if held else rows


def _size(unit: list[_Path]) -> int:
    return len(unit[0].tokens) + sum(len(b.tokens) - _common(a.tokens, b.tokens) for a, b in pairwise(unit))


def _row(paths: list[_Path]) -> _Row:
    row = _Row()
    columns: list[int] = []
    previous: Tokens = []
    for path in sorted(paths):
        shared = _common(previous, path.tokens)
        row.branches |= shared < len(previous)
        end = len(row.ids)
        for column in columns[shared:]:
            row.ends[column] = end
        columns[shared:] = range(end, end + len(path.tokens) - shared)
        row.ids += path.tokens[shared:]
        row.depths += range(shared, len(path.tokens))
        row.ends += [0] * (len(path.tokens) - shared)
        reading = columns[len(path.request.prompt) - 1 :]
        row.reads += [(c, t, path.number) for c, t in zip(reading, path.request.answer, strict=True)]
        previous = path.tokens
    for column in columns:
        row.ends[column] = len(row.ids)
    return row


def _trie(rows: list[_Row], pad_id: int) -> Trie:
    length = max(len(row.ids) for row in rows)
    ids_BL = torch.full((len(rows), length), pad_id)
    depths_BL = torch.zeros_like(ids_BL)
    ends_BL = torch.arange(1, length + 1).repeat(len(rows), 1)  # padding sees itself: an empty row of a mask gives NaN
    for r, row in enumerate(rows):
        ids_BL[r, : len(row.ids)] = torch.tensor(row.ids)
        depths_BL[r, : len(row.ids)] = torch.tensor(row.depths)
        ends_BL[r, : len(row.ids)] = torch.tensor(row.ends)
    reads_T3 = torch.tensor(
        sorted(
            (r * length + column, target, number) for r, row in enumerate(rows) for column, target, number in row.reads
        )
    )
    read_U, place_T = torch.unique(reads_T3[:, 0], return_inverse=True)
    branches = any(row.branches for row in rows)
    return Trie(ids_BL, depths_BL, ends_BL, read_U, place_T, reads_T3[:, 1], reads_T3[:, 2], branches)


def _common(a: Tokens, b: Tokens) -> int:
    """Length of the common start, by bisection: comparing slices is fast, comparing tokens one by one is not."""
    low, high = 0, min(len(a), len(b))
    if a[:high] == b[:high]:
        return high
    while low < high:
        middle = (low + high + 1) // 2
        if a[low:middle] == b[low:middle]:
            low = middle
        else:
            high = middle - 1
    return low
