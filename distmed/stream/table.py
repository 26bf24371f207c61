"""Everything about the cases of a plan, by case number: counts, targets, labels, ids.

Case numbers run through the sources in the order of the recipe. Side files are mapped and looked up; nothing is held for
all cases.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from distmed.prepare.manifest import Manifest
from distmed.stream.tokens import CaseFile, TokenFile

Ints = NDArray[np.int64]


class Table:
    """The cases of several manifests as one. `token_folders`: by epoch (one entry serves all, if there is one), by source."""

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
        self._first_S = np.concatenate([[0], np.cumsum(rows)])[:-1]
        self._cases = [CaseFile(folder) for folder in case_folders]
        # One more entry at the end, so that -1, no label, stays -1.
        self._class_of_label = [
            np.array([*(index.get(key, -1) for key in m.labels), -1], dtype=np.int64) for m in manifests
        ]
        self._token_folders = token_folders
        self._tokens: dict[int, list[TokenFile]] = {}

    def labels(self, cases_N: Ints) -> Ints:
        """Class index of each case; -1 if it has no label, or one outside the set."""
        return self._look_up(cases_N, lambda s, local: self._class_of_label[s][self._cases[s].labels[local]])

    def counts(self, cases_N: Ints, epoch: int) -> Ints:
        """Tokens of each case, whole."""
        tokens = self._of_epoch(epoch)
        return self._look_up(cases_N, lambda s, local: tokens[s].offsets[local + 1] - tokens[s].offsets[local])

    def starts(self, cases_N: Ints, epoch: int) -> Ints:
        """Where in each case its targets begin."""
        tokens = self._of_epoch(epoch)
        return self._look_up(cases_N, lambda s, local: tokens[s].starts[local])

    def ids(self, cases_N: Ints, epoch: int) -> list[NDArray[np.int32]]:
        """Token ids of each case, whole: views of the map."""
        return self._slices(cases_N, [(tokens.ids, tokens.offsets) for tokens in self._of_epoch(epoch)])

    def names(self, cases_N: Ints) -> list[str]:
        """The id of each case."""
        return [name.tobytes().decode() for name in self._slices(cases_N, [(c.names, c.offsets) for c in self._cases])]

    def _slices(self, cases_N: Ints, sources: list[tuple[NDArray[Any], NDArray[Any]]]) -> list[NDArray[Any]]:
        begins = self._look_up(cases_N, lambda s, local: sources[s][1][local]).tolist()
        ends = self._look_up(cases_N, lambda s, local: sources[s][1][local + 1]).tolist()
        return [
            sources[s][0][begin:end] for s, begin, end in zip(self._source(cases_N).tolist(), begins, ends, strict=True)
        ]

    def _source(self, cases_N: Ints) -> Ints:
        return np.searchsorted(self._first_S, cases_N, side="right") - 1

    def _look_up(self, cases_N: Ints, pick: Callable[[int, Ints], NDArray[np.integer]]) -> Ints:
        if len(self._first_S) == 1:
            return np.asarray(pick(0, cases_N), dtype=np.int64)
        found = np.empty(len(cases_N), dtype=np.int64)
        source_N = self._source(cases_N)
        for source in np.unique(source_N):
            of_source = source_N == source
            found[of_source] = pick(int(source), cases_N[of_source] - self._first_S[source])
        return found

    def _of_epoch(self, epoch: int) -> list[TokenFile]:
        key = epoch if len(self._token_folders) > 1 else 0
        if key not in self._tokens:
            opened = [TokenFile(folder) for folder in self._token_folders[key]]
            # A batch touches two epochs at most.
            self._tokens = {**dict(list(self._tokens.items())[-1:]), key: opened}
        return self._tokens[key]
