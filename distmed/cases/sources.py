"""Sources: a file, a glob, a folder, an fsspec URL or a hub id, opened as a stream of rows with their places.

Parquet and hub data sets stream through `datasets`. CSV and JSON lines are read line by line instead: `datasets`
guesses types (an id "007" becomes 7, a cell "NA" becomes null) block by block, cannot say in which line a file is
broken, and finds nothing, without an error, in a file whose name holds brackets. Nothing is held in memory but the
exam files that are one JSON document.
"""

from __future__ import annotations

import codecs
import csv
import glob
import io
import json
import os
import posixpath
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from distmed.cases.formats import Format
from distmed.cases.rows import Place, Row
from distmed.errors import UserError, one_of
from distmed.recipe import Source

_COMPRESSED = (".gz", ".bz2", ".xz", ".zst")
_TABLES = (".jsonl", ".ndjson", ".json", ".csv", ".tsv", ".parquet")
_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+(:\w+)?")
_CELL_LIMIT = 1 << 26
_BATCH = 1000


def placed_rows(source: Source, format: Format) -> Iterator[tuple[Place, Row]]:
    """The rows of a source as dicts by column, one at a time, each with the file and line it came from.

    Raises UserError for whatever is wrong with the files.
    """
    files = _Files(source.source, nested=format.unnest is not None)
    if not files.paths:
        yield from _hub_rows(source.source)
        return
    for path in files.paths:
        suffix = _suffix(path)
        if suffix == ".parquet":
            yield from _parquet_rows(files, path)
        elif suffix in (".csv", ".tsv"):
            yield from _csv_rows(files, path, format.header, "\t" if suffix == ".tsv" else ",")
        elif suffix == ".json" and format.unnest:
            yield from _document_rows(files, path, format)
        else:
            yield from _json_rows(files, path)


def local(source: str) -> str:
    """A leading `~` is the home folder, unless something is called so."""
    return source if Path(source).exists() else os.path.expanduser(source)  # noqa: PTH111 (also a URL)


def file_system(source: str) -> tuple[Any, str]:
    """The file system of a source, and the source's path in it. Raises UserError for a protocol that cannot be opened."""
    import fsspec

    try:
        filesystem, path = fsspec.core.url_to_fs(local(source))
    except (ImportError, ValueError) as error:
        raise UserError(
            f"cannot open {source}: {_one_line(error)}", "install that protocol's package, or mend the URL"
        ) from error
    return filesystem, path


def local_files(root: str) -> list[str]:
    """The files below a folder of this machine, or those that a glob names; linked folders are entered, as by a shell."""
    if Path(root).is_dir():
        return sorted(_below(root, frozenset()))
    return sorted(path for path in glob.glob(root, recursive=True) if Path(path).is_file())  # noqa: PTH207


def _below(folder: str, above: frozenset[str]) -> Iterator[str]:
    real = os.path.realpath(folder)
    if real in above:  # a link that leads back
        return
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.is_dir():
                yield from _below(entry.path, above | {real})
            elif entry.is_file():
                yield entry.path


class _Files:
    """What a source string stands for: the file system, the paths in order, and a short name for each.

    `paths` is empty if the string can only be a hub id. In a folder, `.json` files count only where the format is `nested`
    in one document, or where there is nothing else: beside tables they are somebody's settings.
    """

    def __init__(self, source: str, nested: bool) -> None:
        self.source = source
        self.nested = nested
        self.fs, root = file_system(source)
        try:
            self.paths = self._expand(root)
        except UserError:
            raise
        except Exception as error:  # every store behind fsspec has errors of its own
            raise _unreadable(source, error) from error
        folders = {posixpath.dirname(path) for path in self.paths}
        # One folder above the files, so that siteA/train.csv and siteB/train.csv name their cases differently.
        self.base = posixpath.dirname(posixpath.commonpath(folders)) if folders else ""

    def _expand(self, root: str) -> list[str]:
        from fsspec.implementations.local import LocalFileSystem

        if self.fs.isfile(root):
            if _suffix(root) not in _TABLES:
                raise UserError(
                    f"cannot tell what {self.source} is", f"known endings: {one_of(list(_TABLES))}, also with .gz"
                )
            return [root]
        is_local = isinstance(self.fs, LocalFileSystem)
        # Below what was named, whatever begins with a dot is no data: notebooks keep copies of tables there.
        if self.fs.isdir(root):
            found = _shown(local_files(root) if is_local else self.fs.find(root), root)
        elif glob.has_magic(self.source) and is_local:
            found = local_files(root)
        elif glob.has_magic(self.source):
            files = [path for path in self.fs.glob(root) if not self.fs.isdir(path)]
            found = _shown(files, re.split(r"[*?\[]", root)[0].rpartition("/")[0])
        elif "://" not in self.source and _HUB_ID.fullmatch(self.source) and _suffix(self.source) not in _TABLES:
            return []
        else:
            raise UserError(
                f"not found: {self.source}", "name a file, a glob, a folder, a hub id, or builtin:patients/train"
            )
        paths = sorted(path for path in found if _suffix(path) in _TABLES)
        if not self.nested:
            paths = [path for path in paths if _suffix(path) != ".json"] or paths
        if not paths:
            raise UserError(f"no data files in {self.source}", f"known endings: {one_of(list(_TABLES))}, also with .gz")
        _refuse_twins(paths, is_local=is_local)
        return paths

    def name(self, path: str) -> str:
        return posixpath.relpath(path, self.base) if self.base else path

    def lines(self, path: str) -> Iterator[tuple[int, str]]:
        """The lines of a text file, decoded one by one, so that bad UTF-8 is found in its line."""
        from fsspec.utils import infer_compression

        if path.lower().endswith(".zst") and infer_compression(path) is None:
            raise UserError(f"cannot read {self.name(path)} without zstandard", "pip install zstandard")
        number = 0
        try:
            with self.fs.open(path, "rb", compression="infer") as stream:
                # zstandard's reader has no lines of its own.
                lines = io.BufferedReader(stream) if path.lower().endswith(".zst") else stream
                for number, line in enumerate(lines, start=1):
                    try:
                        yield number, line.decode("utf-8-sig" if number == 1 else "utf-8")
                    except UnicodeDecodeError:
                        place = Place(self.name(path), number, "line")
                        raise UserError(f"{place} is not UTF-8", _conversion(path, line)) from None
        except UserError:
            raise
        except Exception as error:  # every store and every compression has errors of its own
            where = f" after line {number}" if number else ""
            raise _unreadable(f"{self.name(path)}{where}", error) from error


def _conversion(path: str, line: bytes) -> str:
    """Of the encodings that a spreadsheet saves tables in, only UTF-16 can be told by a mark at its beginning."""
    saved_in = "UTF-16" if line.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) else "WINDOWS-1252"
    new = shlex.quote(f"utf8-{posixpath.basename(path)}")
    return f"convert it: iconv -f {saved_in} -t UTF-8 {shlex.quote(path)} > {new} (-f: what it was saved in)"


def _suffix(path: str) -> str:
    path = path.lower()
    for ending in _COMPRESSED:
        path = path.removesuffix(ending)
    return posixpath.splitext(path)[1]


def _json_rows(files: _Files, path: str) -> Iterator[tuple[Place, Row]]:
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


def _shown(paths: list[str], folder: str) -> list[str]:
    return [path for path in paths if "/." not in f"/{path.removeprefix(folder).lstrip('/')}"]


def _refuse_twins(paths: list[str], *, is_local: bool) -> None:
    """Rows that are there twice would be trained twice as often as others, without a word."""
    seen: dict[str, str] = {}
    for path in paths:
        stem = path.removesuffix(posixpath.splitext(path)[1]) if path.endswith(_COMPRESSED) else path
        for name in {stem, os.path.realpath(path) if is_local else stem}:
            if name in seen:
                raise UserError(f"{path} holds the rows of {seen[name]} once more", "take one of them away")
            seen[name] = path


def _csv_rows(files: _Files, path: str, header: tuple[str, ...] | None, delimiter: str) -> Iterator[tuple[Place, Row]]:
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
            f"{place} is not CSV: {_one_line(error)}", "quote cells that hold a delimiter or a line break"
        ) from error


def _header(cells: list[str], place: Place) -> list[str]:
    names = [cell.strip() for cell in cells]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise UserError(f"{place}: columns named twice: {one_of(twice)}", "give every column a name of its own")
    return names


def _document_rows(files: _Files, path: str, format: Format) -> Iterator[tuple[Place, Row]]:
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


def _parquet_rows(files: _Files, path: str) -> Iterator[tuple[Place, Row]]:
    if _is_empty_parquet(files, path):
        return
    yield from _streamed(
        files.name(path), "parquet", data_files=glob.escape(files.fs.unstrip_protocol(path)), split="train"
    )


def _is_empty_parquet(files: _Files, path: str) -> bool:
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


def _unreadable(name: str, error: Exception) -> UserError:
    return UserError(f"cannot read {name}: {type(error).__name__}", "check its permissions, and that it is complete")


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())
