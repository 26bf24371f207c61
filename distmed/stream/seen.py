"""Which runs had a given patient in their data: what a withdrawal of consent asks.

    python -m distmed.stream.seen RUNS ID… [--raw SOURCE …]

RUNS holds run directories, at any depth, or is one; an ID is a case's own, or that of its group (patient, paper). Prepared
folders without identifiers know neither: with the sources they were prepared from (`--raw`), ids are looked up there, and the
places of their rows in the shards. Nothing is prepared or changed; what cannot be answered is said, never passed over.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from distmed.errors import DONE, MENDABLE, UserError, told
from distmed.prepare.manifest import MANIFEST, Manifest
from distmed.prepare.open import prepared_folder, source_content, source_stamp
from distmed.prepare.read import Reader
from distmed.prepare.settings import Settings
from distmed.recipe import Source
from distmed.recipe_file import load_recipe
from distmed.rundir import RunDir
from distmed.stream.rows import RowGroups
from distmed.stream.store import stored

_VARIANT = r"~\d+$"  # after the id of an augmented case


@dataclass(frozen=True)
class Sighting:
    """A run (its path below the folder that was searched), one of its sources, the cases of the patient in it, and how far
    the run has come (in epochs, if it logged any); further, perhaps, where lines of its log are `torn`.
    """

    run: str
    source: str
    cases: list[str]
    epochs: float
    torn: int = 0


@dataclass
class Found:
    """`sightings`: where the wanted ids lie. `unanswered`: what could not be searched, and how to mend it."""

    sightings: list[Sighting] = field(default_factory=list)
    unanswered: list[UserError] = field(default_factory=list)


class Search:
    """The wanted ids, in the shards of runs; `raw`: what prepared folders were made from."""

    def __init__(self, wanted: set[str], raw: Sequence[Path] = ()) -> None:
        self._wanted = wanted
        self._raw = {path.name: path for path in raw}
        self._places: dict[str, set[str]] = {}

    def through(self, runs: Path) -> Found:
        """Raises UserError where there is no run to search."""
        found, top = Found(), RunDir(runs).path
        for run in _runs_in(runs):
            try:
                sources = list(_data_of(run))
            except UserError as error:
                found.unanswered.append(_in_run(run, error))
                continue
            for name, opened in sources:
                try:
                    if isinstance(opened, UserError):
                        raise opened
                    cases = self._cases(opened)
                except UserError as error:
                    found.unanswered.append(_in_run(run, error, name))
                    continue
                if cases:
                    done = (0.0, 0) if name.startswith("data.eval") else _epochs(run)
                    found.sightings.append(Sighting(_called(run, top), name, cases, *done))
        return found

    def _cases(self, manifest: Manifest) -> list[str]:
        rows, found = RowGroups(), []
        wanted = self._wanted | (self._places_in(manifest) if manifest.settings.get("deidentify") else set())
        values = pa.array(sorted(wanted), pa.string())
        for shard, group, _ in manifest.row_groups:
            table = rows.read(manifest, shard, group, columns=["id", "group"])
            ids = pc.replace_substring_regex(table["id"], _VARIANT, "")
            hits = [pc.is_in(column, value_set=values) for column in (table["id"], ids, table["group"])]
            found += table.filter(pc.or_(pc.or_(*hits[:2]), hits[2]))["id"].to_pylist()
        return found

    def _places_in(self, manifest: Manifest) -> set[str]:
        """The places of the wanted rows in the sources of a folder without identifiers."""
        described = manifest.settings["sources"]
        key = json.dumps([described, manifest.settings["group_by"], manifest.settings["clean"]])
        if key not in self._places:
            self._places[key] = self._look_up(manifest, [self._source(manifest, values) for values in described])
        return self._places[key]

    def _source(self, manifest: Manifest, values: dict[str, Any]) -> Source:
        name = values["name"]
        options = {option: values[option] for option in ("format", "where", "columns", "limit")}
        if not values.get("sha256") or name not in self._raw:
            raise UserError(
                f"{manifest.folder} was prepared without identifiers from {name}: nobody can be found in it by id",
                f"add --raw PATH/{name}, a file or folder as it was when it was prepared",
            )
        source = Source(source=str(self._raw[name]), **options)
        if source_content(source) != values["sha256"]:
            raise UserError(
                f"{source.source} is not what {manifest.folder} was prepared from: its content differs",
                "name it as it was when it was prepared, before any case was taken out",
            )
        return source

    def _look_up(self, manifest: Manifest, sources: list[Source]) -> set[str]:
        settings = manifest.settings
        asked = Settings(tuple(sources), clean=settings["clean"], group_by=settings["group_by"])
        places, files = set(), set()
        for placed in Reader(asked):
            files.add(_file_of(placed.place))
            if self._wanted & {placed.place, placed.case.id, placed.case.group}:
                places.add(placed.place)
        first = RowGroups().read(manifest, 0, 0, columns=["id"])["id"][0].as_py()
        if _file_of(first) not in files:
            raise UserError(
                f"{manifest.folder} names its rows otherwise: {_file_of(first)}",
                "put the source into a folder of the name that it had when it was prepared",
            )
        return places


def _runs_in(folder: Path) -> list[RunDir]:
    """A run itself, or all runs below a folder: also one that lost its recipe, which then cannot be searched."""
    if not folder.is_dir():
        raise UserError(f"no such folder: {folder}", "name the folder of the run directories, or a run directory")
    if _is_run(folder):
        return [RunDir(folder)]
    runs = list(_runs_below(folder))
    if not runs:
        raise UserError(f"no run in {folder}", "name the folder of the run directories, or a run directory")
    return runs


def _runs_below(folder: Path) -> Iterator[RunDir]:
    for path in sorted(path for path in folder.iterdir() if path.is_dir()):
        if _is_run(path):
            yield RunDir(path)
        else:
            yield from _runs_below(path)


def _is_run(path: Path) -> bool:
    run = RunDir(path)
    return any(part.exists() for part in (run.recipe, run.metrics, run.data, run.checkpoints))


def _data_of(run: RunDir) -> Iterator[tuple[str, Manifest | UserError]]:
    """Every source of a run by name, as the run itself had it; what it had and no recipe names any more, by its folder."""
    recipe = load_recipe(run.recipe)
    copies = {path.parent for path in run.data.glob(f"cases-*/{MANIFEST}")}
    lost: list[str] = []
    for part in ("train", "eval"):
        for number, source in enumerate(getattr(recipe.data, part)):
            name = f"data.{part}.{number}"
            prepared = _prepared(run, source)
            if prepared is not None:
                yield name, prepared
            elif (copy := run.data / f"cases-{source_stamp(source)}") in copies:
                copies.remove(copy)
                yield name, Manifest.read(copy)
            else:
                lost.append(name)
    yield from ((f"data/{copy.name}", Manifest.read(copy)) for copy in sorted(copies))
    for name in lost[len(copies) :]:
        yield (
            name,
            UserError("its source was changed, and its copy in the run is gone", "the run may have seen the patient"),
        )


def _prepared(run: RunDir, source: Source) -> Manifest | UserError | None:
    """A prepared source, if it still is what the run read; None for a raw one."""
    try:
        folder = prepared_folder(source.source)
        manifest = Manifest.read(folder) if folder is not None else stored(source, run.data)
    except UserError as error:
        return error
    indexed = {path.name.split("-")[1] for path in run.data.glob("index-*")}
    if manifest is not None and indexed and manifest.hash[:16] not in indexed:
        return UserError(
            f"{source.source} was prepared again since, so it is not what the run read", "restore it from a backup"
        )
    return manifest


def _called(run: RunDir, top: Path) -> str:
    """Its path below `top`; its name where it is that itself, or a link to elsewhere."""
    below = run.path != top and run.path.is_relative_to(top)
    return run.path.relative_to(top).as_posix() if below else run.name


def _in_run(run: RunDir, error: UserError, name: str = "") -> UserError:
    return UserError(f"{run.name}  {name}{'  ' if name else ''}{error.message}", error.hint)


def _file_of(place: str) -> str:
    return place.rpartition(":")[0]


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _epochs(run: RunDir) -> tuple[float, int]:
    """How many epochs its log tells of, and how many lines of it cannot be read: the last one of a run that was killed."""
    if not run.metrics.is_file():
        return 0.0, 0
    epochs, torn = 0.0, 0
    for line in run.metrics.read_bytes().splitlines():
        try:
            epochs = max(epochs, float(json.loads(line).get("train/epoch", 0)))
        except (ValueError, TypeError, AttributeError):
            torn += 1
    return epochs, torn


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit status: 0 all was searched, 2 something could not be."""
    parser = argparse.ArgumentParser(prog="python -m distmed.stream.seen", description="Which runs saw a patient.")
    parser.add_argument("runs", type=Path, help="a folder that holds run directories, or a run")
    parser.add_argument("ids", nargs="+", metavar="ID", help="of a case, or of a group (patient, paper)")
    parser.add_argument("--raw", nargs="+", type=Path, default=[], help="sources that `distmed prepare` was given")
    asked = parser.parse_args(arguments)
    try:
        found = Search(set(asked.ids), asked.raw).through(asked.runs)
    except UserError as wrong:
        print(told(wrong), file=sys.stderr)
        return MENDABLE
    for each in found.sightings:
        far = "" if each.source.startswith("data.eval") else f", {each.epochs:.2f} epochs trained"
        if each.torn:
            far += f" or more ({_count(each.torn, 'line')} of {RunDir(each.run).metrics.name} cannot be read)"
        print(f"{each.run}  {each.source}  {_count(len(each.cases), 'case')} ({', '.join(each.cases)}){far}")
    unsearched = f", {len(found.unanswered)} could not be searched" if found.unanswered else ""
    print(f"{_count(len({each.run for each in found.sightings}), 'run')}{unsearched}")
    for error in found.unanswered:
        print(told(error, "not searched"), file=sys.stderr)
    return MENDABLE if found.unanswered else DONE


if __name__ == "__main__":
    sys.exit(main())
