"""Settings: what `distmed prepare` was asked for, checked, and in a form that a manifest can keep.

Options of the command line flow in through `settings_of`, every stage reads its own part. The number of processes is no
setting: it changes how long the work takes, never what comes out.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import date
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from distmed.cases.options import pairs_of, roles_of
from distmed.credentials import without_credentials
from distmed.errors import UserError
from distmed.recipe import Source

SHARES = (("train", 0.8), ("dev", 0.1), ("test", 0.1))
_SPLIT_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*")


@dataclass(frozen=True)
class Settings:
    """`shares`: name and share of each split, the first of them to train on; empty: no split. `cuts`: the days on which
    the second split begins, and the third; `augment`: the least number of training cases of a class, 0: none is added."""

    sources: tuple[Source, ...]
    clean: bool = True
    deidentify: bool = True
    deduplicate: bool = True
    without: tuple[Source, ...] = ()
    group_by: str | None = None
    shares: tuple[tuple[str, float], ...] = ()
    date_column: str | None = None
    cuts: tuple[date, ...] = ()
    augment: int = 0
    seed: int = 1

    @property
    def splits(self) -> tuple[str, ...]:
        """Names of the sub-folders; one empty name where there is no split."""
        if self.cuts:
            return ("train", "test") if len(self.cuts) == 1 else ("train", "dev", "test")
        return tuple(name for name, _ in self.shares) or ("",)

    def described(self) -> dict[str, Any]:
        """For the manifest: every setting, sources by their last name only, so that no folder of this machine is in it."""
        values = asdict(self)
        for name in ("sources", "without"):
            values[name] = [_described(source) for source in getattr(self, name)]
        values["shares"] = dict(self.shares)
        values["cuts"] = [day.isoformat() for day in self.cuts]
        return values


def settings_of(
    sources: Sequence[str],
    *,
    format: str,
    columns: Sequence[str],
    where: Sequence[str],
    limit: int | None,
    without: Sequence[str],
    without_format: str | None,
    group_by: str | None,
    split: str | None,
    split_by_date: str | None,
    clean: bool,
    deidentify: bool,
    deduplicate: bool,
    augment: int,
    seed: int,
) -> Settings:
    """The settings that the options of the command line ask for. Raises UserError for one that makes no sense."""
    roles = roles_of(columns)
    wanted = {column: _wanted(column, value) for column, value in pairs_of("--where", "COLUMN=VALUE", where).items()}
    if split and split_by_date:
        raise UserError("--split and --split-by-date are two ways to split", "give one of them")
    shares = _shares(split) if split else SHARES if group_by and not split_by_date else ()
    column, cuts = _cuts(split_by_date) if split_by_date else (None, ())
    other = without_format or format
    return Settings(
        sources=tuple(_source(name, format, roles, wanted, limit) for name in sources),
        clean=clean,
        deidentify=deidentify,
        deduplicate=deduplicate,
        without=tuple(_source(name, other, roles if other == "columns" else {}, {}, None) for name in without),
        group_by=group_by,
        shares=shares,
        date_column=column,
        cuts=cuts,
        augment=augment,
        seed=seed,
    )


def _source(name: str, format: str, columns: dict[str, str], where: dict[str, Any], limit: int | None) -> Source:
    if name.startswith("builtin:"):
        format = "columns"
    try:
        return Source(source=name, format=format, columns=columns, where=where, limit=limit)
    except ValidationError as error:
        fault = error.errors()[0]
        raise UserError(f"--{fault['loc'][0]}: {fault['msg'].lower()}", "mend that option") from error


def _described(source: Source) -> dict[str, Any]:
    values = source.model_dump(mode="json", include={"format", "where", "columns", "limit"})
    return {"name": Path(without_credentials(source.source)).name, **values}


def _wanted(column: str, text: str) -> Any:
    """What a cell must be, or a list of that. What is quoted is text; so are "012", "1E5" and "no", which are codes and
    words, though YAML reads 10, 100000 and false."""
    if text[0] not in "['\"":
        return _plain(text)
    try:
        value = yaml.load(text, yaml.BaseLoader)
    except yaml.YAMLError:
        value = None
    if isinstance(value, str):
        return value
    if isinstance(value, list) and value and all(isinstance(one, str) for one in value):
        return [_plain(one) for one in value]
    raise UserError(
        f"--where {column}={text} is no value and no list of values", "write COLUMN=VALUE, or COLUMN=[ONE,OTHER]"
    )


def _plain(text: str) -> Any:
    words = {"true": True, "false": False, "null": None}
    if text.lower() in words:
        return words[text.lower()]
    for number in (int, float):
        try:
            if str(number(text)) == text:
                return number(text)
        except ValueError:
            continue
    return text


def _shares(split: str) -> tuple[tuple[str, float], ...]:
    form = "write --split train=0.8,dev=0.1,test=0.1; the shares add up to 1"
    try:
        shares = tuple((name.strip(), float(share)) for name, share in (part.split("=") for part in split.split(",")))
    except ValueError as error:
        raise UserError(f"--split {split} does not name splits with their shares", form) from error
    names = [name for name, _ in shares]
    if not all(_SPLIT_NAME.fullmatch(name) for name in names) or len(set(names)) < len(names):
        raise UserError(f"--split {split}: names must be different, of letters, digits, _ and -", form)
    if not all(share > 0 for _, share in shares) or abs(sum(share for _, share in shares) - 1) > 1e-6:
        raise UserError(f"--split {split}: the shares do not add up to 1", form)
    return shares


def _cuts(split_by_date: str) -> tuple[str, tuple[date, ...]]:
    form = "write --split-by-date COLUMN=2023-01-01 (train, test) or COLUMN=2022-01-01,2023-01-01 (train, dev, test)"
    column, equals, days = split_by_date.partition("=")
    try:
        cuts = tuple(date.fromisoformat(day.strip()) for day in days.split(","))
    except ValueError as error:
        raise UserError(f"--split-by-date {split_by_date} names no days", form) from error
    if not column or not equals or len(cuts) > 2 or sorted(set(cuts)) != list(cuts):
        raise UserError(f"--split-by-date {split_by_date} is no column with one day, or two in order", form)
    return column, cuts
