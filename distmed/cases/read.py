"""Reading: a source of the recipe becomes a stream of cases.

Rows flow in from `sources`, pass the recipe's `where`, become cases by their format, and stop at the recipe's `limit`.
What was left out is counted by rule, so that a caller can say so; whatever the user can mend is a `UserError`.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections import Counter
from collections.abc import Iterator
from datetime import date
from typing import Any, Literal

from distmed.cases.case import Case
from distmed.cases.demographics import subgroups
from distmed.cases.formats import Format, format_of
from distmed.cases.rows import Place, Row, RowError, columns_shown
from distmed.cases.sources import placed_rows
from distmed.cases.synthetic import builtin_patients
from distmed.errors import UserError, one_of
from distmed.recipe import Source


def read_cases(source: Source, task: Literal["classify", "generate"] | None = None) -> Iterator[Case]:
    """The cases of a source, one at a time; see CaseReader."""
    return iter(CaseReader(source, task))


class CaseReader:
    """The cases of a source, and after a pass over them how many there were and how many were dropped, by rule.

    With a `task`, data that cannot serve it is refused: a classifier needs labels, a generator an answer. Every case
    has an id and a group (its own id if the data set knows none), and `subgroups` that hold at least sex and age band
    where known. `labels="optional"`: cases to be diagnosed, whose label may be missing, even as a column.
    """

    def __init__(
        self,
        source: Source,
        task: Literal["classify", "generate"] | None = None,
        *,
        labels: Literal["required", "optional"] = "required",
    ) -> None:
        self.source = source
        self.task = task
        self.labels = labels
        self.cases = 0
        self.dropped: Counter[str] = Counter()

    def __iter__(self) -> Iterator[Case]:
        """Raises UserError: source or format unknown, a column or a label missing, a broken row, no case at all."""
        self.cases = 0
        self.dropped = Counter()
        for case in self._unlimited():
            self.cases += 1
            yield case
            if self.cases == self.source.limit:
                return
        if not self.cases:
            raise self._empty()

    def _unlimited(self) -> Iterator[Case]:
        if self.source.source.startswith("builtin:"):
            yield from filter(self._in_groups, builtin_patients(self.source))
            return
        format = format_of(self.source, labeled=self.labels == "required")
        if self.task == "classify" and not format.labeled:
            raise UserError(f"{self.source.source}: {format.name} has no label to classify", "use task: generate")
        spared = format.answers if self.labels == "optional" else ()
        needed = (*(column for column in format.columns if column not in spared), *self.source.where)
        for place, row in placed_rows(self.source, format):
            require(row, needed, place)
            if spared:
                row = dict.fromkeys(spared) | row
            if not all(matches(row[column], wanted) for column, wanted in self.source.where.items()):
                self.dropped["where"] += 1
                continue
            case = _to_case(format, row, place, labeled=format.labeled and self.labels == "required")
            if case is None:
                self.dropped[format.drops] += 1
            elif self._in_groups(case):
                yield case

    def _in_groups(self, case: Case) -> bool:
        if self.source.groups is None or _in_range(case.group, self.source.groups):
            return True
        self.dropped["groups"] += 1
        return False

    def _empty(self) -> UserError:
        if not self.dropped:
            return UserError(f"{self.source.source} holds no cases", "name a source with at least one row")
        rules = one_of([f"{rule} ({count})" for rule, count in sorted(self.dropped.items())])
        return UserError(f"no case of {self.source.source} is left, all were dropped: {rules}", "loosen `where`")


def _in_range(group: str, bounds: tuple[float, float]) -> bool:
    """Whether the group's hash, as a number in [0, 1), lies in the range; the same on every machine."""
    digest = hashlib.blake2b(group.encode(), digest_size=8).digest()
    return bounds[0] <= int.from_bytes(digest, "big") / 2**64 < bounds[1]


def require(row: Row, columns: tuple[str, ...], place: Place) -> None:
    missing = [column for column in dict.fromkeys(columns) if column not in row]
    if missing:
        raise UserError(f"{place} lacks the column {one_of(missing)}", f"there are: {columns_shown(row, place.file)}")


def matches(cell: Any, wanted: Any) -> bool:
    """Equality, or membership where a list is wanted. A CSV cell is text, so `true` and 3 also match "True" and "3"; and a
    day is the same as its ISO text."""
    if isinstance(wanted, list | tuple):
        return any(matches(cell, one) for one in wanted)
    if isinstance(cell, date) != isinstance(wanted, date):
        return str(cell) == str(wanted)
    if isinstance(cell, str) and isinstance(wanted, bool | int | float):
        return cell.strip().lower() in (str(wanted).lower(), f"{wanted:g}")
    return bool(cell == wanted)


def _to_case(format: Format, row: Row, place: Place, *, labeled: bool) -> Case | None:
    try:
        case = format.to_case(row)
    except RowError as error:
        raise UserError(f"{place} {error.what}", error.how) from None
    except (TypeError, ValueError, KeyError, AttributeError) as error:
        raise UserError(
            f"{place} is not laid out as {format.name}: {type(error).__name__}", "check `format:` in the recipe"
        ) from error
    if case is None:
        return None
    id = case.id or place.key
    if labeled and case.label is None:
        raise UserError(f"{place} (case {id}) has no label", "fill it in, or take the row out")
    case = dataclasses.replace(
        case, id=id, group=case.group or id, subgroups={**subgroups(case.sex, case.age_years), **case.subgroups}
    )
    require_characters(case, place, texts=True)
    return case


def require_characters(case: Case, place: Place, *, texts: bool) -> None:
    """Raises UserError where names or texts hold half a character (a lone surrogate): no file can hold that."""
    held = [case.id, case.group, case.label or "", case.label_name or "", *case.subgroups.values()]
    held += [name for name, _ in case.differential]
    if texts:
        held += [case.text, *case.findings, *case.excluded, *case.options, *(content for _, content in case.messages)]
    try:
        "".join(held).encode()
    except UnicodeEncodeError:
        raise UserError(
            f"{place} holds half a character, a lone \\ud800 to \\udfff",
            "mend where the text was cut, or take the row out",
        ) from None
