"""Reading for `prepare`: rows of all sources become cases with their places, and with the column that splits them.

Sources flow in, `Placed` cases flow out, in the order of sources and files. It is more patient than reading for training:
a row without a text or a label is counted and left out where the clean stage is on.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, datetime
from itertools import islice
from pathlib import Path
from typing import Any

from distmed.cases.case import Case
from distmed.cases.columns import check_roles
from distmed.cases.demographics import subgroups
from distmed.cases.formats import Format, format_of, format_to_compare
from distmed.cases.read import matches, read_cases, require, require_characters
from distmed.cases.rows import Place, Row, RowError, text_of
from distmed.cases.sources import placed_rows
from distmed.errors import UserError
from distmed.prepare.manifest import Manifest
from distmed.prepare.open import prepared_folder
from distmed.prepare.settings import Settings
from distmed.prepare.shards import read_cases_of
from distmed.recipe import Source


@dataclass(frozen=True, slots=True)
class Placed:
    """A case, the place of its row (`file:line`, the same for the same files anywhere), and its day if the split asks."""

    case: Case
    place: str
    day: date | None = None


class Reader:
    """All cases of the settings' sources.

    Shards of a source that is prepared already are compared with their `checksums`. `compared`: an evaluation set, of
    which only the wording counts; its rows owe no label. After a pass: `rows` read, how many
    were `dropped` by the settings or the format, and how many were `unclean`.
    """

    def __init__(self, settings: Settings, *, checksums: bool = True, compared: bool = False) -> None:
        self.settings = settings
        self.checksums = checksums
        self.compared = compared
        self.rows = 0
        self.dropped: Counter[str] = Counter()
        self.unclean: Counter[str] = Counter()

    def __iter__(self) -> Iterator[Placed]:
        """Raises UserError for whatever the user can mend, by file and line."""
        self.rows = 0
        self.dropped = Counter()
        self.unclean = Counter()
        for number, source in enumerate(self.settings.sources, start=1):
            mark = f"{number}:" if len(self.settings.sources) > 1 else ""
            for placed in islice(self._cases(source), source.limit):
                yield dataclasses.replace(placed, place=mark + placed.place) if mark else placed

    def _cases(self, source: Source) -> Iterator[Placed]:
        whole = _whole(source, self.checksums)
        if whole is not None:
            if self.settings.group_by or self.settings.date_column:
                raise UserError(f"{source.source} has no columns to split by", "leave the column out, or name a table")
            for number, case in enumerate(whole, start=1):
                self.rows += 1
                yield Placed(case, f"{Path(source.source).name}:{number}")
            return
        format = format_to_compare(source) if self.compared else format_of(source)
        texts = _texts(source, answered=not self.compared) if self.settings.clean else ()
        extra = [column for column in (self.settings.group_by, self.settings.date_column) if column]
        for place, row in placed_rows(source, format):
            self.rows += 1
            if self.compared:
                row = dict.fromkeys(format.answers) | row
            require(row, (*format.columns, *source.where, *extra), place)
            placed = self._placed(source, format, texts, place, row)
            if placed is not None:
                yield placed

    def _placed(
        self, source: Source, format: Format, texts: tuple[tuple[str, str], ...], place: Place, row: Row
    ) -> Placed | None:
        if not all(matches(row[column], wanted) for column, wanted in source.where.items()):
            self.dropped["where"] += 1
            return None
        for column, rule in texts:
            if _text(row, column, place) is None:
                self.unclean[rule] += 1
                return None
        case = _case(format, row, place)
        if case is None:
            self.dropped[format.drops] += 1
            return None
        if format.labeled and case.label is None:
            if not self.settings.clean:
                raise UserError(f"{place} has no label", "fill it in, take the row out, or leave out --no-clean")
            self.unclean["no label"] += 1
            return None
        by, on = self.settings.group_by, self.settings.date_column
        group = _cell(row, by, place) if by else case.group
        case = dataclasses.replace(
            case,
            id=case.id or place.key,
            group=group or case.id or place.key,
            subgroups={**subgroups(case.sex, case.age_years), **case.subgroups},
        )
        require_characters(case, place, texts=not self.settings.clean)  # cleaning mends texts
        return Placed(case, place.key, _day(row[on], on, place) if on else None)


def check_sources(settings: Settings) -> None:
    """Raises UserError for a source or evaluation set that cannot be opened, or whose first row cannot be read."""
    for source in settings.sources:
        _refuse_filters(source)
        first = source.model_copy(update={"where": {}})  # the first match of a filter may lie far back
        next(iter(Reader(dataclasses.replace(settings, sources=(first,)), checksums=False)), None)
    for source in settings.without:
        next(iter(evaluation_set(source, checksums=False)), None)


def _refuse_filters(source: Source) -> None:
    for name in ("where", "columns"):
        if getattr(source, name) and prepared_folder(source.source) is not None:
            raise UserError(
                f"{source.source} is prepared already: --{name} has no effect on it any more",
                f"leave --{name} out, or prepare the raw source with it",
            )


def evaluation_set(source: Source, *, checksums: bool = True) -> Reader:
    """The reader of an evaluation set, for `--without`; the --columns of the sources do not concern built-in patients."""
    if source.source.startswith("builtin:"):
        source = source.model_copy(update={"columns": {}})
    return Reader(Settings(sources=(source,)), checksums=checksums, compared=True)


def _whole(source: Source, checksums: bool) -> Iterator[Case] | None:
    """What is cases already: the built-in patients, and a prepared folder."""
    if source.source.startswith("builtin:"):
        return read_cases(source)
    folder = prepared_folder(source.source)
    if folder is not None:
        manifest = Manifest.read(folder)
        manifest.verify(checksums=checksums)
        return read_cases_of(manifest)
    return None


def _texts(source: Source, *, answered: bool) -> tuple[tuple[str, str], ...]:
    """Columns that must not be empty, each with the rule that drops a row where it is."""
    if source.format != "columns":
        return ()
    roles = check_roles(source.columns)
    owed = [("text", "empty text")] if "messages" not in roles else []
    if answered and "options" not in roles and "messages" not in roles:
        owed.append(("answer", "no answer"))
    return tuple((roles[role], rule) for role, rule in owed if role in roles)


def _case(format: Format, row: Row, place: Place) -> Case | None:
    try:
        return format.to_case(row)
    except RowError as error:
        raise UserError(f"{place} {error.what}", error.how) from None
    except (TypeError, ValueError, KeyError, AttributeError) as error:
        raise UserError(
            f"{place} is not laid out as {format.name}: {type(error).__name__}", "check --format and --columns"
        ) from error


def _text(row: Row, column: str, place: Place) -> str | None:
    try:
        return text_of(row[column], column)
    except RowError as error:
        raise UserError(f"{place} {error.what}", error.how) from None


def _cell(row: Row, column: str, place: Place) -> str:
    value = _text(row, column, place)
    if value is None:
        raise UserError(f"{place} has nothing in `{column}`, by which to group", "fill it in, or take the row out")
    return value


def _day(value: Any, column: str, place: Place) -> date:
    """The day of a date, a time or their ISO text; a year alone is its first day."""
    if isinstance(value, datetime):
        return value.date()
    if isinstance(value, date):
        return value
    text = str(value).strip()
    try:
        return date(int(text), 1, 1) if len(text) == 4 else datetime.fromisoformat(text).date()
    except ValueError:
        raise UserError(f"{place} has no date in `{column}`", "write dates as YYYY-MM-DD") from None
