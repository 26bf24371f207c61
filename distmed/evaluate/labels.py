"""Labels: what the data calls a disease, and what the model calls it.

Label keys and names of both sides, and perhaps a mapping file, flow in; each label of the data becomes a class of the model, or
several, or none. Ids (ICD-10, Mondo, OMIM) are compared as they are written: nothing is guessed into a score.
"""

from __future__ import annotations

import csv
import difflib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from distmed.errors import UserError, one_of

_BETWEEN = re.compile(r"\s*[;|]\s*")
ALIKE = 0.8
COLUMNS = ("data", "model")


@dataclass(frozen=True)
class Meaning:
    """The classes that a label of the data stands for: one, several (a case with more than one diagnosis), or none."""

    classes: tuple[int, ...]
    mapped: bool = False


class LabelSpace:
    """The classes of a model, by key and by name."""

    def __init__(self, labels: Sequence[str], names: Sequence[str], mapping: Mapping[str, str] | None = None) -> None:
        self.labels = list(labels)
        self.names = list(names)
        self._by_name = {name: k for k, name in reversed(list(enumerate(names)))}
        self._by_key = {label: k for k, label in enumerate(labels)}
        self.mapping = mapping or {}

    def meaning(self, label: str, name: str | None) -> Meaning:
        """The class with this key, else with this name; else several, if a part between `;` or `|` is a class."""
        for written in (label, name):
            if written is not None and written in self.mapping:
                target = self.mapping[written]
                found = self.find(target)
                return Meaning(() if found is None else (found,), mapped=True)
        for written in (label, name):
            found = None if written is None else self.find(written)
            if found is not None:
                return Meaning((found,))
        parts = [self.find(part) for part in _BETWEEN.split(label)]
        if any(part is not None for part in parts):
            return Meaning(tuple(part if part is not None else -1 for part in parts))
        return Meaning(())

    def nearest(self, label: str, name: str | None) -> str | None:
        """The class whose key or name is spelled most like this label, if one is.

        Never one with other numbers: OMIM:154700 and OMIM:154701, or types 1 and 2, are different diseases.
        """
        plain = {_plain(text): k for texts in (self.names, self.labels) for k, text in enumerate(texts)}
        for written in filter(None, (label, name)):
            wanted = _plain(written)
            numbers = _numbers(wanted)
            same = [text for text in plain if _numbers(text) == numbers]
            near = difflib.get_close_matches(wanted, same, n=1, cutoff=ALIKE)
            if near:
                return self.labels[plain[near[0]]]
        return None

    def find(self, written: str) -> int | None:
        """The class with this key, else with this name, as it is written."""
        return self._by_key.get(written, self._by_name.get(written))


def read_mapping(path: Path, space: LabelSpace) -> dict[str, str]:
    """A mapping file: CSV or TSV with the columns `data` and `model`, or a JSON object. An empty `model`: none of its classes.

    Raises UserError for a file that is none of these, or a class that the model does not have.
    """
    how = 'write a CSV with the header data,model, or JSON {"data label": "model label"}'
    if not path.is_file():
        raise UserError(f"no mapping file at {path}", how)
    try:
        text = path.read_text(encoding="utf-8-sig")
        if path.suffix.lower() == ".json":
            pairs = [(str(data), str(model or "")) for data, model in json.loads(text).items()]
        else:
            lines = text.splitlines()
            rows = list(csv.DictReader(lines, delimiter="\t" if path.suffix.lower() == ".tsv" else ","))
            pairs = [(row["data"].strip(), (row["model"] or "").strip()) for row in rows]
    except (ValueError, KeyError, AttributeError, TypeError) as error:
        raise UserError(f"{path} is no mapping file ({type(error).__name__})", how) from error
    unknown = [model for _, model in pairs if model and space.find(model) is None]
    if unknown:
        near = space.nearest(unknown[0], None)
        raise UserError(
            f"{path} maps to labels that the model does not have: {one_of(unknown, 5)}",
            f"did you mean {near}?" if near else f"its labels are {one_of(space.labels, 5)}",
        )
    return {data: model for data, model in pairs if model or data}


def write_draft(path: Path, unknown: Mapping[str, str | None], space: LabelSpace) -> int:
    """A mapping file to fill in: every label of the data that the model does not know, with the nearest of its own. How many
    have one."""
    suggestions = {label: space.nearest(label, name) for label, name in sorted(unknown.items())}
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(COLUMNS)
        writer.writerows([label, near or ""] for label, near in suggestions.items())
    return sum(near is not None for near in suggestions.values())


def _plain(text: str) -> str:
    """Without case, punctuation and the difference between separators: `ICD-10: e11.9` and `ICD10 E11 9`."""
    return " ".join(re.findall(r"[a-z]+|\d+", text.lower()))


def _numbers(plain: str) -> list[str]:
    """Arabic and Roman ones, in order of their spelling."""
    return sorted(word.lstrip("0") for word in plain.split() if word.isdigit() or re.fullmatch("[ivx]+", word))
