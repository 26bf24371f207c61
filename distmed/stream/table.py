"""Everything about the cases of a plan, by case number: counts, targets, labels, names, and ids where they are kept.

Case numbers run through the sources in the order of the recipe. Side files are mapped and looked up; nothing is held for
all cases.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

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

    def ids(self, cases_N: Ints, epoch: int) -> list[NDArray[np.int32]]:
        """Token ids of each case, whole: views of the map. Only where they are kept."""

        def of(s: int) -> tuple[Any, NDArray[Any]]:
            tokens = self.tokens(s, epoch)
            return tokens.ids, tokens.offsets

        return self._slices(cases_N, of)

    def names(self, cases_N: Ints) -> list[str]:
        """The id of each case."""
        return [name.tobytes().decode() for name in self._slices(cases_N, self._names)]

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

    def _names(self, source: int) -> tuple[Any, NDArray[Any]]:
        return self._cases[source].names, self._cases[source].offsets

    def _slices(self, cases_N: Ints, of: Callable[[int], tuple[Any, NDArray[Any]]]) -> list[NDArray[Any]]:
        """`values[offsets[i] : offsets[i + 1]]` of every case; `of` a source gives values and offsets."""
        source_N = self.source(cases_N)
        files = {s: of(s) for s in np.unique(source_N).tolist()}
        begins = self._look_up(cases_N, lambda s, local: files[s][1][local]).tolist()
        ends = self._look_up(cases_N, lambda s, local: files[s][1][local + 1]).tolist()
        return [files[s][0][begin:end] for s, begin, end in zip(source_N.tolist(), begins, ends, strict=True)]

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
