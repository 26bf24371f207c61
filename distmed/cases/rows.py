"""A row on its way to a case: where it came from, and what may be wrong with it.

Sources attach a `Place` to each row, formats raise `RowError` about its content, the reader joins both into a
`UserError`. A cell's content never goes into an error, since it can be patient text.
"""

from __future__ import annotations

from typing import Any, NamedTuple

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


class RowError(Exception):
    """A row that its format cannot use: what is wrong, and how to mend it, without a word of its content."""

    def __init__(self, what: str, how: str) -> None:
        super().__init__(what, how)
        self.what = what
        self.how = how


def text_of(value: Any) -> str | None:
    """A cell as stripped text; None for an empty one and for NaN, so that an empty label counts as missing."""
    if value is None or value != value:
        return None
    return str(value).strip() or None


def written(row: Row, column: str) -> str:
    """The text of a cell that may not be empty. Raises RowError: a model would be asked about the word "None"."""
    text = text_of(row[column])
    if text is None:
        raise RowError(f"has nothing in `{column}`", "fill it in, or take the row out")
    return text
