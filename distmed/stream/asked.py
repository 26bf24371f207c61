"""A row group unpacked so that any of its rows is at hand: what a prompt depends on, and nothing else.

An Arrow table flows in, its `Asked`s flow out. Taking rows out of Arrow tables piece by piece costs as much as a
third of their tokenising. Strings that come again (findings, label names) are held once.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise, repeat
from typing import Any

import pyarrow as pa

from distmed.cases.case import Asked

COLUMNS = Asked._fields


def asked_rows(table: pa.Table) -> list[Asked]:
    """All rows of a table with at least `COLUMNS`."""
    ids, texts = (_values(_chunk(table, name)) for name in ("id", "text"))
    kinds, sexes, ages, names = (_shared(_chunk(table, name)) for name in ("kind", "sex", "age_years", "label_name"))
    findings, excluded, options, messages = (
        _lists(_chunk(table, name)) for name in ("findings", "excluded", "options", "messages")
    )
    return list(map(Asked, ids, kinds, texts, findings, excluded, sexes, ages, names, options, messages))


def _lists(column: Any) -> Iterable[tuple[Any, ...]]:
    """The lists of a column, equal items held once."""
    items = column.flatten()
    if not len(items):
        return repeat((), len(column))
    bounds = column.offsets.to_numpy()
    bounds = (bounds - bounds[0]).tolist()
    if pa.types.is_struct(items.type):  # messages
        held: tuple[Any, ...] = tuple(zip(*(_shared(items.field(name)) for name in ("role", "content")), strict=True))
    else:
        held = tuple(_shared(items))
    return [held[start:stop] for start, stop in pairwise(bounds)]


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
