"""Everything about the cases of a plan, by case number: counts, targets, labels, names, and ids where they are kept.

Case numbers run through the sources in the order of the recipe. Side files are mapped and looked up; nothing is held for
all cases.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from distmed.prepare.manifest import Manifest
from distmed.stream.tokens import CaseFile, TokenFile

Ints = NDArray[np.int64]

OPEN_FILES = 64
"""Mapped at a time, a few of each source: two neighbouring epochs of each may be in use."""


class Table:
    """The cases of several manifests as one. `token_folders`: by source, then by epoch (or one for all)."""

    def __init__(
        self,
        manifests: Sequence[Manifest],
        labels: Sequence[str],
        case_folders: Sequence[Path],
        token_folders: Sequence[Sequence[Path]],
    ) -> None:
        index = {label: place for place, label in enumerate(labels)}
        rows = [manifest.rows for manifest in manifests]
        self.size = sum(rows)
        self.first_S = np.concatenate([[0], np.cumsum(rows)])[:-1]
        self._cases = [CaseFile(folder) for folder in case_folders]
        # One more entry at the end, so that -1, no label, stays -1.
        self._class_of_label = [
            np.array([*(index.get(key, -1) for key in m.labels), -1], dtype=np.int64) for m in manifests
        ]
        self._token_folders = token_folders
        self._tokens: OrderedDict[tuple[int, int], TokenFile] = OrderedDict()

    def labels(self, cases_N: Ints) -> Ints:
        """Class index of each case; -1 if it has no label, or one outside the set."""
        return self._look_up(cases_N, lambda s, local: self._class_of_label[s][self._cases[s].labels[local]])

    def counts(self, cases_N: Ints, epoch: int) -> Ints:
        """Tokens of each case, whole."""

        def pick(s: int, local: Ints) -> Ints:
            offsets = self.tokens(s, epoch).offsets
            return offsets[local + 1] - offsets[local]

        return self._look_up(cases_N, pick)

    def starts(self, cases_N: Ints, epoch: int) -> Ints:
        """Where in each case its targets begin."""
        return self._look_up(cases_N, lambda s, local: self.tokens(s, epoch).starts[local])

    def tokens_of(self, cases_N: Ints, epoch: int, *, limit: int, keep_last: bool) -> tuple[NDArray[np.int32], Ints]:
        """(token ids of all cases in a row, how many each has), where ids are kept. Of a case with more than `limit` tokens
        the first ones, or with `keep_last` the first ones and the last."""
        source_C = self.source(cases_N)
        begin_C, end_C = self._bounds(cases_N, lambda s: self.tokens(s, epoch).offsets)
        index_N, size_C = token_places(begin_C, end_C, limit=limit, keep_last=keep_last)
        sources = np.unique(source_C).tolist()
        if len(sources) == 1:
            return np.asarray(self._kept(sources[0], epoch)[index_N]), size_C
        found = np.empty(len(index_N), dtype=np.int32)
        source_N = np.repeat(source_C, size_C)
        for s in sources:
            of_source = np.flatnonzero(source_N == s)
            found[of_source] = self._kept(s, epoch)[index_N[of_source]]
        return found, size_C

    def names(self, cases_N: Ints) -> list[str]:
        """The id of each case."""
        begin_C, end_C = self._bounds(cases_N, lambda s: self._cases[s].offsets)
        texts = [of.names.data for of in self._cases]
        bounds = zip(self.source(cases_N).tolist(), begin_C.tolist(), end_C.tolist(), strict=True)
        return [str(texts[s][begin:end], "utf-8") for s, begin, end in bounds]

    def same_tokens(self, epoch: int, other: int) -> bool:
        """Whether the cases have the same tokens in both epochs."""
        return epoch == other or all(len(folders) == 1 for folders in self._token_folders)

    def tokens(self, source: int, epoch: int) -> TokenFile:
        """The tokens of one source in one of its epochs."""
        folders = self._token_folders[source]
        key = (source, epoch if len(folders) > 1 else 0)
        if key not in self._tokens:
            while len(self._tokens) >= max(OPEN_FILES, 4 * len(self.first_S)):
                self._tokens.popitem(last=False)
            self._tokens[key] = TokenFile(folders[key[1]])
        self._tokens.move_to_end(key)
        return self._tokens[key]

    def _kept(self, source: int, epoch: int) -> NDArray[np.int32]:
        ids = self.tokens(source, epoch).ids
        assert ids is not None
        return ids

    def _bounds(self, cases_N: Ints, offsets_of: Callable[[int], NDArray[np.int64]]) -> tuple[Ints, Ints]:
        """Where each case begins and ends in what `offsets_of` a source says."""
        return (
            self._look_up(cases_N, lambda s, local: offsets_of(s)[local]),
            self._look_up(cases_N, lambda s, local: offsets_of(s)[local + 1]),
        )

    def source(self, cases_N: Ints) -> Ints:
        """Which source each case is of."""
        return np.searchsorted(self.first_S, cases_N, side="right") - 1

    def _look_up(self, cases_N: Ints, pick: Callable[[int, Ints], NDArray[np.integer]]) -> Ints:
        if len(self.first_S) == 1:
            return np.asarray(pick(0, cases_N), dtype=np.int64)
        found = np.empty(len(cases_N), dtype=np.int64)
        source_N = self.source(cases_N)
        for source in np.unique(source_N).tolist():
            of_source = source_N == source
            found[of_source] = pick(source, cases_N[of_source] - self.first_S[source])
        return found


def token_places(begin_C: Ints, end_C: Ints, *, limit: int, keep_last: bool) -> tuple[Ints, Ints]:
    """(where the tokens of some cases lie, case after case, how many each has), each cut to `limit`. A case has those from
    `begin_C` to `end_C`; cut, it keeps the first ones, or with `keep_last` the first ones and the last."""
    size_C = np.minimum(end_C - begin_C, limit)
    to_C = np.cumsum(size_C)
    index_N = np.arange(int(size_C.sum())) + np.repeat(begin_C - to_C + size_C, size_C)
    if keep_last:
        long_C = end_C - begin_C > limit
        index_N[to_C[long_C] - 1] = end_C[long_C] - 1
    return index_N, size_C
