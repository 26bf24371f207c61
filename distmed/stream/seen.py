"""Which runs had a given patient in their data: what a withdrawal of consent asks.

    python -m distmed.stream.seen RUNS ID…

RUNS holds run directories; an ID is a case's own, or that of its group (patient, paper). Manifests and shards flow in, one line
a run and source flows out.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import yaml

from distmed.errors import UserError
from distmed.prepare.manifest import MANIFEST, Manifest
from distmed.recipe import check
from distmed.rundir import RunDir
from distmed.stream.rows import RowGroups
from distmed.stream.store import open_data


@dataclass(frozen=True)
class Sighting:
    """A run, one of its sources, the cases of the patient in it, and how far the run has come (in epochs, if it logged any)."""

    run: str
    source: str
    cases: list[str]
    epochs: float


def sightings(runs: Path, wanted: set[str]) -> Iterator[Sighting]:
    """Where the wanted ids lie. Raises UserError for a source that cannot be opened any more."""
    for recipe_path in sorted(runs.glob("*/recipe.yaml")):
        run = RunDir(recipe_path.parent)
        recipe = check(yaml.safe_load(recipe_path.read_text(encoding="utf-8")))
        for part in ("train", "eval"):
            for number, source in enumerate(getattr(recipe.data, part)):
                cases = _cases(open_data(source, run.data), wanted)
                if cases:
                    yield Sighting(run.name, f"data.{part}.{number}", cases, _epochs(run) if part == "train" else 0.0)


def _cases(manifest: Manifest, wanted: set[str]) -> list[str]:
    rows, found = RowGroups(), []
    values = pa.array(sorted(wanted), pa.string())
    for shard, group, _ in manifest.row_groups:
        table = rows.read(manifest, shard, group, columns=["id", "group"])
        hit = pc.or_(pc.is_in(table["id"], value_set=values), pc.is_in(table["group"], value_set=values))
        found += table.filter(hit)["id"].to_pylist()
    return found


def _epochs(run: RunDir) -> float:
    if not run.metrics.is_file():
        return 0.0
    logged = [json.loads(line) for line in run.metrics.read_text(encoding="utf-8").splitlines()]
    return max((line["train/epoch"] for line in logged if "train/epoch" in line), default=0.0)


def main() -> int:
    if len(sys.argv) < 3:
        print(
            f"python -m distmed.stream.seen RUNS ID…: RUNS holds run directories with their {MANIFEST}", file=sys.stderr
        )
        return 2
    try:
        found = list(sightings(Path(sys.argv[1]), set(sys.argv[2:])))
    except UserError as error:
        print(f"{error.message}\n{error.hint}", file=sys.stderr)
        return 2
    for each in found:
        far = f", {each.epochs:.2f} epochs trained" if each.source.startswith("data.train") else ""
        print(f"{each.run}  {each.source}  {len(each.cases)} cases ({', '.join(each.cases)}){far}")
    print(f"{len({each.run for each in found})} runs")
    return 0


if __name__ == "__main__":
    sys.exit(main())
