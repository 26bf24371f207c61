"""Sources as `evaluate` and `predict` name them on the command line: a place, one --format for all, and --columns for tables.

Words flow in, sources as a recipe has them flow out. What is wrong with the words is found here, before any file is written.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from distmed.cases.options import roles_of
from distmed.cases.read import CaseReader
from distmed.errors import UserError
from distmed.prepare.open import prepared_folder
from distmed.recipe import Source


def sources_of(
    names: Mapping[str, str | None], format: str | None, columns: Sequence[str], *, labeled: bool = True
) -> dict[str, Source]:
    """The sources that have a name. Roles go to the raw tables among them: a prepared folder and built-in patients are cases
    already. Unless `labeled`, no column with the diagnosis need be named or there.

    Raises UserError for roles that another format or every source has no use for, or by which a table's first row is no case.
    """
    roles = roles_of(columns)
    sources = {what: _source(name, format, roles) for what, name in names.items() if name}
    tables = [source for source in sources.values() if source.columns]
    if roles and not tables:
        raise UserError(
            f"{sources['data'].source} is no raw table: --columns has no effect on it",
            "leave --columns out: a prepared folder knows ids, groups and subgroups",
        )
    for source in tables:
        next(iter(CaseReader(source, labels="required" if labeled else "optional")))
    return sources


def _source(name: str, format: str | None, roles: dict[str, str]) -> Source:
    given: dict[str, Any] = {"format": format} if format else {}
    raw = prepared_folder(name) is None and not name.startswith("builtin:")
    return Source(source=name, columns=roles if raw else {}, **given)
