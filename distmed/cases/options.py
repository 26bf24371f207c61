"""Options of the command line that say how rows are read: `--columns ROLE=COLUMN` and `--where COLUMN=VALUE`.

Words as they were typed flow in, pairs flow out. What a role means, and which there are: columns.py.
"""

from __future__ import annotations

from collections.abc import Sequence

from distmed.errors import UserError


def roles_of(columns: Sequence[str]) -> dict[str, str]:
    """The column of each role that `--columns` names. Raises UserError for a word that is no ROLE=COLUMN."""
    return pairs_of("--columns", "ROLE=COLUMN", columns)


def pairs_of(option: str, form: str, items: Sequence[str]) -> dict[str, str]:
    pairs = {}
    for item in items:
        key, equals, value = item.partition("=")
        if not equals or not key or not value:
            raise UserError(f"{option} {item} is not {form}", f"write {option} {form}, once for each")
        pairs[key] = value
    return pairs
