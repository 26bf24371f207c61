"""Sources: the files that files.py finds, or a hub id, read as a stream of rows with their places.

Parquet and hub data sets stream through `datasets`. CSV and JSON lines are read line by line instead: `datasets`
guesses types (an id "007" becomes 7, a cell "NA" becomes null) block by block, cannot say in which line a file is
broken, and finds nothing, without an error, in a file whose name holds brackets. Nothing is held in memory but the
exam files that are one JSON document.
"""

from __future__ import annotations

import csv
import glob
import json
from collections.abc import Iterator
from typing import Any

from distmed.cases.files import Files, one_line, suffix
from distmed.cases.formats import Format
from distmed.cases.rows import Place, Row, columns_shown
from distmed.errors import UserError
from distmed.recipe import Source

_CELL_LIMIT = 1 << 26
_BATCH = 1000


def placed_rows(source: Source, format: Format) -> Iterator[tuple[Place, Row]]:
    """The rows of a source as dicts by column, one at a time, each with the file and line it came from.

    Raises UserError for whatever is wrong with the files.
    """
    files = Files(source.source, nested=format.unnest is not None)
    if not files.paths:
        yield from _hub_rows(source.source)
        return
    for path in files.paths:
        ending = suffix(path)
        if ending == ".parquet":
            yield from _parquet_rows(files, path)
        elif ending in (".csv", ".tsv"):
            yield from _csv_rows(files, path, format.header, "\t" if ending == ".tsv" else ",")
        elif ending == ".json" and format.unnest:
            yield from _document_rows(files, path, format)
        else:
            yield from _json_rows(files, path)


def _json_rows(files: Files, path: str) -> Iterator[tuple[Place, Row]]:
    for number, line in files.lines(path):
        if not line.strip():
            continue
        place = Place(files.name(path), number, "line")
        try:
            row = json.loads(line)
        except ValueError:
            raise UserError(f"{place} is not JSON", _OBJECTS) from None
        except RecursionError:
            raise UserError(f"{place} is nested too deep", _OBJECTS) from None
        if not isinstance(row, dict):
            raise UserError(f"{place} is no JSON object", _OBJECTS)
        yield place, row


_OBJECTS = "each line is one object; jq -c '.[]' turns a JSON list into such lines"


def _csv_rows(files: Files, path: str, header: tuple[str, ...] | None, delimiter: str) -> Iterator[tuple[Place, Row]]:
    """Cells stay text, and may hold line breaks; a row's place is the line where it begins."""
    csv.field_size_limit(_CELL_LIMIT)
    reader = csv.reader((line for _, line in files.lines(path)), delimiter=delimiter, strict=True)
    names = list(header) if header else None
    begins = 1
    try:
        for cells in reader:
            place, begins = Place(files.name(path), begins, "line"), reader.line_num + 1
            if not cells:
                continue
            if names is None:
                names = _header(cells, place)
                continue
            if cells == names:
                raise UserError(f"{place} is the header once more", "take it out: a row of names is no case")
            if len(cells) != len(names):
                raise UserError(
                    f"{place} has {len(cells)} cells under {len(names)} columns",
                    "quote cells that hold a delimiter or a line break",
                )
            yield place, dict(zip(names, cells, strict=True))
    except csv.Error as error:
        place = Place(files.name(path), begins, "line")
        raise UserError(
            f"{place} is not CSV: {one_line(error)}", "quote cells that hold a delimiter or a line break"
        ) from error


def _header(cells: list[str], place: Place) -> list[str]:
    names = [cell.strip() for cell in cells]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise UserError(
            f"{place}: columns named twice: {columns_shown(twice, place.file)}", "give every column a name of its own"
        )
    return names


def _document_rows(files: Files, path: str, format: Format) -> Iterator[tuple[Place, Row]]:
    """Rows of a file that is one JSON document, laid out in the data set's own way."""
    assert format.unnest is not None
    text = "".join(line for _, line in files.lines(path))
    name = files.name(path)
    try:
        rows = list(format.unnest(json.loads(text)))
    except json.JSONDecodeError as error:
        raise UserError(f"{Place(name, error.lineno, 'line')} is not JSON", "fetch the file again") from None
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:
        raise UserError(f"{name} is not laid out as {format.name}", "check `format:` in the recipe") from error
    yield from ((Place(name, number), row) for number, row in enumerate(rows, start=1))


def _parquet_rows(files: Files, path: str) -> Iterator[tuple[Place, Row]]:
    if _is_empty_parquet(files, path):
        return
    yield from _streamed(
        files.name(path), "parquet", data_files=glob.escape(files.fs.unstrip_protocol(path)), split="train"
    )


def _is_empty_parquet(files: Files, path: str) -> bool:
    """Whether it is a sound file without rows, such as Spark leaves beside others: `datasets` cannot read those."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with files.fs.open(path, "rb") as stream:
            return bool(pq.read_metadata(stream).num_rows == 0)
    except (OSError, pa.ArrowException):
        return False


def _hub_rows(source: str) -> Iterator[tuple[Place, Row]]:
    """A data set of the hub, `owner/name` or `owner/name:split` (`train` if none is named)."""
    name, _, split = source.partition(":")
    yield from _streamed(f"{source} (a hub id, as no file is there)", name, split=split or "train")


def _streamed(name: str, *args: Any, **options: Any) -> Iterator[tuple[Place, Row]]:
    import datasets

    number = 0
    try:
        # Arrow batches: rows one by one cost `datasets` forty times as much.
        for table in datasets.load_dataset(*args, streaming=True, **options).with_format("arrow").iter(_BATCH):
            for row in table.to_pylist():
                number += 1
                yield Place(name, number), row
    except (OSError, ValueError, RuntimeError, datasets.exceptions.DatasetsError) as error:
        where = f" after row {number}" if number else ""
        raise UserError(
            f"cannot read {name}{where}: {type(error).__name__}",
            "check that the file or the hub id is right, and that it can be reached",
        ) from error
