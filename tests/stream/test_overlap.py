"""Patients of the evaluation that training has, too, are counted before a run starts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from distmed.prepare.manifest import Manifest
from distmed.prepare.shards import read_cases_of, write_shards
from distmed.recipe import Recipe
from distmed.stream.overlap import overlap
from distmed.stream.store import StoredManifest
from distmed.stream.stream import StreamPlan
from tests.stream.conftest import patients


def test_groups_of_both_are_counted_once(
    recipe: Callable[..., Recipe], plan_of: Callable[..., StreamPlan], sources: list[Manifest], tmp_path: Path
) -> None:
    train = plan_of(recipe())
    other = list(patients(30, prefix="other"))
    # Three visits of two patients whom training has, in row groups of their own.
    known = [replace(case, id=f"again-{case.id}-{n}") for case in list(read_cases_of(sources[1]))[:2] for n in range(3)]
    clean = write_shards(iter(other), tmp_path / "clean", format="columns", rows_per_group=10)
    mixed = write_shards(iter([*other, *known]), tmp_path / "mixed", format="columns", rows_per_group=4)
    evaluation = {"train": False, "cache": tmp_path / "cache"}
    assert overlap(train, plan_of(recipe(), manifests=[clean], **evaluation)) == []
    assert overlap(train, plan_of(recipe(), manifests=[clean, mixed], **evaluation)) == [
        "2 of 32 groups (patients, papers) of data.eval are in data.train, too: unless others have their names, what is "
        "measured on them is no evidence"
    ]


def test_a_source_in_a_store_is_said_not_to_be_compared(
    recipe: Callable[..., Recipe], plan_of: Callable[..., StreamPlan], sources: list[Manifest], tmp_path: Path
) -> None:
    far = StoredManifest(**{**vars(sources[1]), "folder": tmp_path}, url="s3://shelf/rows")
    train = replace(plan_of(recipe()), manifests=[sources[0], far])
    same = plan_of(recipe(), manifests=sources[:2], train=False, cache=tmp_path / "cache")
    assert overlap(train, same) == [
        "data.train.1 lies in a store: its groups (patients, papers) are not compared with those of data.eval",
        "37 of 287 groups (patients, papers) of data.eval are in data.train, too: unless others have their names, what is "
        "measured on them is no evidence",
    ]
