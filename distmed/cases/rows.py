"""A row on its way to a case: where it came from, and what may be wrong with it.

Sources attach a `Place` to each row, formats raise `RowError` about its content, the reader joins both into a
`UserError`. A cell's content never goes into an error, since it can be patient text.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from decimal import Decimal
from typing import Any, NamedTuple

from distmed.errors import one_of

Row = dict[str, Any]


class Place(NamedTuple):
    """File (with its folder) and number of a row, from 1; `unit` is "line" in text files and "row" elsewhere."""

    file: str
    number: int
    unit: str = "row"

    def __str__(self) -> str:
        return f"{self.file} {self.unit} {self.number}"

    @property
    def key(self) -> str:
        """An id for a case whose data set gives none."""
        return f"{self.file}:{self.number}"


_NAME = re.compile(r"[^\W\d][\w .#/()-]{0,39}")
_HEADER_WORDS = re.compile(
    r"(?:.*[\W_])?(?:text|notes?|labels?|id|mrn|name|age|sex|gender|date|dob|code|icd(?:9|10)?|patient|visit|case|diagnosis|answer|"
    r"question|options|messages|group|site|history|report|summary|admission|encounter|subject|key)(?:[\W_].*)?"
)


def columns_shown(columns: Iterable[Any], file: str) -> str:
    """The columns of a file as an error names them. A CSV without a header line has its first patient there: those are only
    counted, unless all look like names of columns and one is a usual one."""
    names = [str(column) for column in columns]
    table = re.search(r"\.[ct]sv\b", file) is not None
    if table and not (
        all(map(_NAME.fullmatch, names)) and any(_HEADER_WORDS.fullmatch(name.lower()) for name in names)
    ):
        return f"{len(names)} columns; is there a header line?"
    return one_of([name[:40] for name in names], 40)


class RowError(Exception):
    """A row that its format cannot use: what is wrong, and how to mend it, without a word of its content."""

    def __init__(self, what: str, how: str) -> None:
        super().__init__(what, how)
        self.what = what
        self.how = how


def text_of(value: Any, column: str = "") -> str | None:
    """A cell as stripped text; None for an empty one and for NaN, so that an empty label counts as missing.

    A number is the same text whatever type a table gave its column: 7, 7.0 and a decimal 7.00 are one patient. Raises
    RowError for bytes that are no text, and for a list or an object.
    """
    where = f" in `{column}`" if column else ""
    if isinstance(value, list | tuple | dict):
        raise RowError(f"holds a list or an object{where} where one value is asked", "write one value a cell")
    if isinstance(value, bytes):
        try:
            value = value.decode()
        except UnicodeDecodeError:
            raise RowError(f"holds bytes{where} that are no UTF-8 text", "write the column as text") from None
    if value is None or value != value:
        return None
    if isinstance(value, float | Decimal) and math.isfinite(value) and value == int(value):
        value = int(value)
    return str(value).strip() or None


def written(row: Row, column: str) -> str:
    """The text of a cell that may not be empty. Raises RowError: a model would be asked about the word "None"."""
    text = text_of(row[column], column)
    if text is None:
        raise RowError(f"has nothing in `{column}`", "fill it in, or take the row out")
    return text
