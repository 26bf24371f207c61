"""A row group unpacked so that any of its rows is at hand: what a prompt depends on, and nothing else.

An Arrow table flows in, `Asked`s flow out by their place. Taking rows out of Arrow tables piece by piece costs as much as a
third of their tokenising. Strings that come again (findings, label names) are held once.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pyarrow as pa

from distmed.cases.case import Asked

COLUMNS = Asked._fields


class AskedRows:
    """The rows of a table with at least `COLUMNS`."""

    def __init__(self, table: pa.Table) -> None:
        self._ids, self._texts = (_values(_chunk(table, name)) for name in ("id", "text"))
        self._kinds, self._sexes, self._ages, self._names = (
            _shared(_chunk(table, name)) for name in ("kind", "sex", "age_years", "label_name")
        )
        self._findings, self._excluded, self._options, self._messages = (
            _Lists(_chunk(table, name)).at for name in ("findings", "excluded", "options", "messages")
        )

    def at(self, i: int) -> Asked:
        return Asked(
            self._ids[i],
            self._kinds[i],
            self._texts[i],
            self._findings(i),
            self._excluded(i),
            self._sexes[i],
            self._ages[i],
            self._names[i],
            self._options(i),
            self._messages(i),
        )


class _Lists:
    """A column of lists: all items in a row, and where each list begins."""

    def __init__(self, column: Any) -> None:
        items = column.flatten()
        self._starts = column.offsets.to_numpy().tolist()
        first = self._starts[0]
        self._starts = [start - first for start in self._starts]
        if pa.types.is_struct(items.type):  # messages
            self._items: list[Any] = list(
                zip(*(_shared(items.field(name)) for name in ("role", "content")), strict=True)
            )
        else:
            self._items = _shared(items)
        self.at = self._slice if self._items else self._nothing

    def _slice(self, i: int) -> Sequence[Any]:
        return self._items[self._starts[i] : self._starts[i + 1]]

    def _nothing(self, i: int) -> Sequence[Any]:
        return ()


def _chunk(table: pa.Table, name: str) -> Any:
    column = table[name]
    return column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()


def _values(column: Any) -> list[Any]:
    return list(column.to_numpy(zero_copy_only=False).tolist())


def _shared(column: Any) -> list[Any]:
    """Values as Python objects, equal ones held once."""
    coded = column.dictionary_encode()
    known = [*coded.dictionary.to_pylist(), None]
    return [known[code] for code in coded.indices.fill_null(-1).to_numpy(zero_copy_only=False).tolist()]
