"""Stream: the steps of one worker, from any position on.

A plan, a rank and a world size flow in; `Step`s flow out. The global batch is sequences k … k+B-1 whatever the world size;
here it is only cut among the workers. Nothing but k has to be saved.
"""

from __future__ import annotations

import math
import weakref
from collections.abc import Generator, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from distmed.errors import UserError
from distmed.stream.batch import Cases, Step, stand_in, tensors
from distmed.stream.encode import Encode
from distmed.stream.plan import StreamPlan
from distmed.stream.prefetch import prefetched
from distmed.stream.reading import IdReader
from distmed.stream.sequences import Sequence, Sequences
from distmed.stream.shares import by_length, near_home
from distmed.stream.table import token_places

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

__all__ = ["Stream", "StreamPlan"]

Ints = NDArray[np.int64]


class Stream:
    """What worker `rank` of `world_size` gets to train on (or to score, if the plan is for evaluation)."""

    def __init__(self, plan: StreamPlan, tokenizer: PreTrainedTokenizerBase, rank: int, world_size: int) -> None:
        self.plan = plan
        self.rank = rank
        self.world_size = world_size
        self.total_sequences = plan.total_sequences
        self._pad_id = tokenizer.pad_token_id or 0
        self._table = plan.table()
        self._sequences = Sequences(plan, self._table)
        self.reader = None if plan.ids_kept else self._reader(tokenizer)
        self._open: weakref.WeakSet[Generator[Step, None, None]] = weakref.WeakSet()

    def sequences_per_epoch(self, epoch: int) -> int:
        return self.plan.sequences_per_epoch(epoch)

    def _reader(self, tokenizer: PreTrainedTokenizerBase) -> IdReader:
        """Reads and tokenises as cases come; holds this worker's part of what all windows under way hold."""
        at_once = self._sequences.groups_at_once
        share = at_once if not self.plan.packing else math.ceil(at_once / self.world_size * 1.5)
        # Where one window ends and the next begins, both are in use.
        return IdReader(self.plan, self._table, Encode(self.plan.recipe, tokenizer, {}), kept=share + 16)

    @property
    def passes(self) -> int:
        """Micro-batches of every step, on every worker: ceil(ceil(B / W) / micro)."""
        return math.ceil(math.ceil(self.plan.global_batch / self.world_size) / self.plan.micro_batch)

    def steps(self, k: int, *, prefetch: bool = True) -> Iterator[Step]:
        """The steps from sequence k to the end. The last one may have fewer sequences; `passes` stays the same."""
        steps = (self._step(at) for at in range(k, self.total_sequences, self.plan.global_batch))
        if not prefetch:
            return steps
        ahead = prefetched(map(_pinned, steps) if torch.cuda.is_available() else steps)
        self._open.add(ahead)
        return ahead

    def close(self) -> None:
        """End the threads that still prefetch."""
        for ahead in list(self._open):
            ahead.close()

    def state(self, k: int) -> dict[str, Any]:
        """What a checkpoint keeps: the position, and what it is a function of."""
        return {"k": k, **self.plan.identity}

    def check(self, state: dict[str, Any]) -> None:
        """Raises UserError if `state` is a position in another stream, naming what differs."""
        other = [name for name, value in self.plan.identity.items() if state.get(name) != value]
        if other:
            said = ", ".join(f"{name} (was {state.get(name)}, now {self.plan.identity[name]})" for name in other)
            raise UserError(
                f"the checkpoint is a place in another stream of cases: {said}",
                "set it back, or start a new run under another name",
            )

    def _step(self, k: int) -> Step:
        plan = self.plan
        end = min(k + plan.global_batch, self.total_sequences)
        batch = self._sequences.between(k, end)
        counts_S, denominator, cases = self._measure(batch)
        options: dict[str, Any] = {"seq_len": plan.seq_len, "pad_id": self._pad_id, "targets": plan.task == "generate"}
        shares = self._shares(batch, counts_S)
        in_rows = [[len(batch[s].cases_N) for s in share] for share in shares]
        parts = self._cases([batch[s] for share in shares for s in share]).parts([sum(rows) for rows in in_rows])
        return Step(
            micro_batches=[
                tensors(part, rows, **options) if rows else stand_in(**options)
                for part, rows in zip(parts, in_rows, strict=True)
            ],
            denominator=denominator,
            tokens=int(counts_S.sum()),
            cases=cases,
            epoch=plan.epoch_at(end),
            epochs=plan.epochs_at(end),
            k=k,
            next_k=end,
        )

    def _measure(self, batch: list[Sequence]) -> tuple[Ints, float, int]:
        """Tokens of each sequence, the denominator, and the number of cases, of a global batch."""
        counts_S, denominator, cases = np.empty(len(batch), dtype=np.int64), 0.0, 0
        for places, epoch, cases_N in self._alike(batch):
            count_N = np.minimum(self._table.counts(cases_N, epoch), self.plan.seq_len)
            sizes = [len(batch[place].cases_N) for place in places]
            counts_S[places] = np.add.reduceat(count_N, np.cumsum([0, *sizes[:-1]]))
            cases += len(cases_N)
            if self.plan.task == "generate":
                denominator += float(np.maximum(count_N - self._table.starts(cases_N, epoch), 0).sum())
            else:
                denominator += float(self._weights(self._table.labels(cases_N)).sum(dtype=np.float64))
        return counts_S, denominator, cases

    def _alike(self, batch: list[Sequence]) -> list[tuple[list[int], int, Ints]]:
        """(places, epoch, their cases) of the sequences that can be looked up together: whose epoch has the same tokens."""
        groups: dict[int, list[int]] = {}
        for place, sequence in enumerate(batch):
            same = (epoch for epoch in groups if self._table.same_tokens(epoch, sequence.epoch))
            groups.setdefault(next(same, sequence.epoch), []).append(place)
        return [
            (places, epoch, np.concatenate([batch[place].cases_N for place in places]))
            for epoch, places in groups.items()
        ]

    def _shares(self, batch: list[Sequence], counts_S: Ints) -> list[list[int]]:
        """Which sequences of the global batch are in each micro-batch of this worker, on each pass."""
        micro, world = self.plan.micro_batch, self.world_size
        if not self.plan.packing:
            return by_length(counts_S, micro, world, self.passes)[self.rank]
        lane_S, width_S = np.array([(s.lane / s.lanes, 1 / s.lanes) for s in batch]).T
        mine = near_home(lane_S, width_S, world)[self.rank]
        return [mine[micro * p : micro * (p + 1)] for p in range(self.passes)]

    def _cases(self, share: list[Sequence]) -> Cases:
        """The cases of some sequences, looked up together."""
        number_C = np.concatenate([np.empty(0, dtype=np.int64), *(sequence.cases_N for sequence in share)])
        sizes = [len(sequence.cases_N) for sequence in share]
        place_C = np.repeat(np.arange(len(share)), sizes)
        size_C, start_C = np.empty(len(number_C), dtype=np.int64), np.empty(len(number_C), dtype=np.int64)
        pieces = []
        for places, epoch, cases_N in self._alike(share):
            of_C = np.isin(place_C, places)
            start_C[of_C] = self._table.starts(cases_N, epoch)
            tokens_N, size_C[of_C] = self._tokens(cases_N, epoch)
            pieces.append((of_C, tokens_N))
        label_C = self._table.labels(number_C)
        return Cases(
            ids_N=_interleaved(pieces, size_C),
            size_C=size_C,
            start_C=start_C,
            label_C=label_C,
            weight_C=self._weights(label_C),
            case_ids=self._table.names(number_C),
            number_C=number_C,
        )

    def _tokens(self, cases_N: Ints, epoch: int) -> tuple[NDArray[np.int32], Ints]:
        """(tokens of all cases in a row, how many each has), cut to seq_len. A classifier keeps the last token, where it is
        pooled or which ends its text."""
        limit, keep_last = self.plan.seq_len, self.plan.task == "classify"
        if self.reader is None:
            return self._table.tokens_of(cases_N, epoch, limit=limit, keep_last=keep_last)
        ids_N, size_C = self.reader.tokens(cases_N, epoch)
        end_C = np.cumsum(size_C)
        index_N, size_C = token_places(end_C - size_C, end_C, limit=limit, keep_last=keep_last)
        return ids_N[index_N], size_C

    def _weights(self, label_N: Ints) -> NDArray[np.float32]:
        if self.plan.task == "generate":
            return np.ones(len(label_N), dtype=np.float32)
        return np.where(label_N < 0, np.float32(0), self.plan.class_weights_K[label_N])


def _interleaved(pieces: list[tuple[NDArray[np.bool_], NDArray[np.int32]]], size_C: Ints) -> NDArray[np.int32]:
    """The tokens of some cases, piece by piece of those that `of_C` marks, in the order of the cases."""
    if len(pieces) == 1:
        return pieces[0][1]
    ids_N = np.empty(int(size_C.sum()), dtype=np.int32)
    for of_C, tokens_N in pieces:
        ids_N[np.repeat(of_C, size_C)] = tokens_N
    return ids_N


def _pinned(step: Step) -> Step:
    return replace(step, micro_batches=[batch.pin_memory() for batch in step.micro_batches])
