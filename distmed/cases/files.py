"""Files: what a source string stands for, and the lines of a text file.

A file, a glob, a folder or an fsspec URL flows in; paths in order, short names for them, and decoded lines flow out. What
is in the lines: sources.py.
"""

from __future__ import annotations

import codecs
import glob
import io
import os
import posixpath
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from distmed.cases.rows import Place
from distmed.errors import UserError, one_of

_COMPRESSED = (".gz", ".bz2", ".xz", ".zst")
_TABLES = (".jsonl", ".ndjson", ".json", ".csv", ".tsv", ".parquet")
_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+(:\w+)?")


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
            f"cannot open {source}: {one_line(error)}", "install that protocol's package, or mend the URL"
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


class Files:
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
            if suffix(root) not in _TABLES:
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
        elif "://" not in self.source and _HUB_ID.fullmatch(self.source) and suffix(self.source) not in _TABLES:
            return []
        else:
            raise UserError(
                f"not found: {self.source}", "name a file, a glob, a folder, a hub id, or builtin:patients/train"
            )
        paths = sorted(path for path in found if suffix(path) in _TABLES)
        if not self.nested:
            paths = [path for path in paths if suffix(path) != ".json"] or paths
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


def suffix(path: str) -> str:
    path = path.lower()
    for ending in _COMPRESSED:
        path = path.removesuffix(ending)
    return posixpath.splitext(path)[1]


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


def _unreadable(name: str, error: Exception) -> UserError:
    return UserError(f"cannot read {name}: {type(error).__name__}", "check its permissions, and that it is complete")


def one_line(error: Exception) -> str:
    return " ".join(str(error).split())
