from __future__ import annotations

import dataclasses
import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from distmed.prepare.open import open_source
from distmed.prepare.shards import write_shards
from distmed.recipe import Source
from distmed.recipe_file import check
from distmed.rundir import RunDir
from distmed.stream.seen import Search, main
from tests.prepare.conftest import PrepareDoor, rows_of
from tests.prepare.conftest import prepare as prepare
from tests.prepare.conftest import table as table
from tests.stream.conftest import patients

PLAIN = "--no-deidentify"
COLUMNS = ("--columns", "text=text", "--columns", "label=label", "--columns", "id=visit", "--columns", "group=patient")


@pytest.fixture
def runs(tmp_path: Path) -> Callable[..., Path]:
    """Makes a run directory of some sources, as training would leave it."""

    def make(name: str, *sources: Path, **options: object) -> Path:
        run = tmp_path / "runs" / name
        run.mkdir(parents=True)
        train = [{"source": str(source), **options} for source in sources]
        recipe = check({"name": name, "task": "classify", "model": {"path": "none"}, "data": {"train": train}})
        (run / "recipe.yaml").write_text(recipe.to_yaml())
        (run / "metrics.jsonl").write_text(json.dumps({"step": 3, "train/epoch": 1.5}) + "\n")
        return tmp_path / "runs"

    return make


def test_the_runs_that_had_a_patient_are_found_by_case_and_by_group(tmp_path: Path, runs: Callable[..., Path]) -> None:
    cases = [dataclasses.replace(case, group=f"patient-{n // 2}") for n, case in enumerate(patients(20))]
    one, other = tmp_path / "one", tmp_path / "other"
    write_shards(cases[:10], one, format="columns", rows_per_group=3)
    write_shards(cases[10:], other, format="columns", rows_per_group=3)
    runs("a", one), runs("b", other)
    folder = runs("c", one, other)
    found = Search({"patient-2"}).through(folder)
    assert [(each.run, each.source, each.cases, each.epochs) for each in found.sightings] == [
        ("a", "data.train.0", ["case-4", "case-5"], 1.5),
        ("c", "data.train.0", ["case-4", "case-5"], 1.5),
    ]
    assert not found.unanswered
    assert [each.run for each in Search({"case-12"}).through(folder).sightings] == ["b", "c"]
    assert not Search({"case-99"}).through(folder).sightings
    command = [sys.executable, "-m", "distmed.stream.seen", str(folder), "patient-7"]
    told = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert told.splitlines()[-1] == "2 runs" and "c  data.train.1  2 cases (case-14, case-15), 1.50 epochs" in told


def test_a_run_itself_is_searched_and_a_folder_without_runs_refused(
    tmp_path: Path, runs: Callable[..., Path], capfd: pytest.CaptureFixture[str]
) -> None:
    write_shards(patients(4), tmp_path / "one", format="columns")
    folder = runs("a", tmp_path / "one")
    assert main([str(folder / "a"), "case-2"]) == 0
    assert capfd.readouterr().out.splitlines() == ["a  data.train.0  1 case (case-2), 1.50 epochs trained", "1 run"]
    for wrong, said in ((tmp_path / "nowhere", "no such folder"), (tmp_path / "one", "no run in")):
        assert main([str(wrong), "case-2"]) == 2
        told = capfd.readouterr()
        assert not told.out and f"error: {said}" in told.err


def test_runs_in_folders_of_their_own_are_searched_too(
    tmp_path: Path, runs: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As DISTMED_RUNS=runs/project leaves them; also where the folder is named as a person does, from where he is."""
    write_shards(patients(4), tmp_path / "one", format="columns")
    folder = runs("a", tmp_path / "one")
    shutil.copytree(folder / "a", folder / "project" / "team" / "b")
    (folder / "notes").mkdir()
    (folder / "linked").symlink_to(shutil.copytree(folder / "a", tmp_path / "elsewhere" / "c"))
    monkeypatch.chdir(tmp_path)
    for named in (folder, Path("runs")):
        assert [each.run for each in Search({"case-2"}).through(named).sightings] == ["a", "c", "project/team/b"]


def test_a_damaged_run_counts_as_not_searched_and_the_others_are_searched(
    tmp_path: Path, runs: Callable[..., Path], capfd: pytest.CaptureFixture[str]
) -> None:
    write_shards(patients(4), tmp_path / "one", format="columns")
    for name in ("a", "b", "c", "d", "e"):
        folder = runs(name, tmp_path / "one")
    with (folder / "a" / "metrics.jsonl").open("a") as file:
        file.write('{"step": 4, "train/ep')
    (folder / "b" / "recipe.yaml").write_text("name: [")
    (folder / "c" / "recipe.yaml").write_bytes(b"\xff\xfe")
    (folder / "d" / "recipe.yaml").unlink()
    (folder / "e" / "recipe.yaml").write_text("")
    assert main([str(folder), "case-2"]) == 2
    told = capfd.readouterr()
    assert told.out.splitlines() == [
        "a  data.train.0  1 case (case-2), 1.50 epochs trained or more (1 line of metrics.jsonl cannot be read)",
        "1 run, 4 could not be searched",
    ]
    assert [line.split()[2] for line in told.err.splitlines() if line.startswith("not searched: ")] == list("bcde")
    assert told.err.count("\n  fix: ") == 4


def visits(count: int = 24) -> list[dict[str, object]]:
    return [{**row, "visit": f"visit-{n}", "label": f"D{n % 2}"} for n, row in enumerate(rows_of(count))]


def test_augmented_variants_of_a_case_are_found_by_its_id(
    prepare: PrepareDoor, table: Callable[..., Path], runs: Callable[..., Path], tmp_path: Path
) -> None:
    out = prepare(table(visits()), PLAIN, *COLUMNS, "--augment", "24", out=tmp_path / "out").folder
    (found,) = Search({"visit-7"}).through(runs("a", out)).sightings
    assert found.cases == ["visit-7", "visit-7~1"]


def test_a_patient_is_found_where_prepare_took_the_identifiers_away(
    prepare: PrepareDoor,
    table: Callable[..., Path],
    runs: Callable[..., Path],
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:
    pytest.importorskip("presidio_analyzer", reason="the extra `privacy` is not installed")
    raw = table(visits())
    out = prepare(raw, *COLUMNS, out=tmp_path / "out").folder
    folder = runs("a", out)
    # Without the source nobody can know, and that is said.
    assert main([str(folder), "P2"]) == 2
    said = capfd.readouterr()
    assert "0 runs" in said.out and "not searched: a  data.train.0" in said.err and "  fix: add --raw" in said.err
    assert main([str(folder), "P2", "--raw", str(raw)]) == 0
    assert f"a  data.train.0  3 cases ({', '.join(f'{tmp_path.name}/notes.jsonl:{n}' for n in (7, 8, 9))})" in (
        capfd.readouterr().out
    )
    assert main([str(folder), "visit-7", "--raw", str(raw)]) == 0
    assert "  1 case (" in capfd.readouterr().out
    # A source that lost the patient since gives other places: it must not answer.
    raw.write_text("".join(raw.read_text().splitlines(keepends=True)[9:]))
    assert main([str(folder), "P2", "--raw", str(raw)]) == 2
    assert "its content differs" in capfd.readouterr().err


def test_a_source_in_another_folder_is_refused_since_places_name_the_folder(
    prepare: PrepareDoor, table: Callable[..., Path], runs: Callable[..., Path], tmp_path: Path
) -> None:
    pytest.importorskip("presidio_analyzer", reason="the extra `privacy` is not installed")
    raw = table(visits())
    folder = runs("a", prepare(raw, *COLUMNS, out=tmp_path / "out").folder)
    (tmp_path / "moved").mkdir()
    moved = Path(shutil.copy(raw, tmp_path / "moved"))
    found = Search({"P2"}, [moved]).through(folder)
    assert not found.sightings and "names its rows otherwise" in found.unanswered[0].message


def test_what_a_run_copied_is_searched_though_its_source_lost_the_patient(
    table: Callable[..., Path], runs: Callable[..., Path]
) -> None:
    raw = table(visits())
    options = {"columns": {"text": "text", "label": "label", "id": "visit", "group": "patient"}}
    folder = runs("a", raw, **options)
    data = RunDir(folder / "a").data
    open_source(Source(source=str(raw), **options), data)  # type: ignore[arg-type]
    assert [each.source for each in Search({"P2"}).through(folder).sightings] == ["data.train.0"]
    raw.write_text("".join(raw.read_text().splitlines(keepends=True)[9:]))
    before = sorted(data.rglob("*"))
    (found,) = Search({"P2"}).through(folder).sightings
    assert found.cases == ["visit-6", "visit-7", "visit-8"] and found.source.startswith("data/cases-")
    assert sorted(data.rglob("*")) == before  # nothing is prepared for the asking
    shutil.rmtree(data)
    lost = Search({"P2"}).through(folder)
    assert not lost.sightings and "its copy in the run is gone" in lost.unanswered[0].message


def test_a_folder_that_was_prepared_again_does_not_answer_for_the_old_one(
    tmp_path: Path, runs: Callable[..., Path]
) -> None:
    manifest = write_shards(patients(20), tmp_path / "one", format="columns")
    folder = runs("a", tmp_path / "one")
    (RunDir(folder / "a").data / f"index-{manifest.hash[:16]}").mkdir(parents=True)
    assert Search({"case-4"}).through(folder).sightings
    write_shards(list(patients(20))[5:], tmp_path / "one", format="columns")
    found = Search({"case-4"}).through(folder)
    assert not found.sightings and "was prepared again since" in found.unanswered[0].message
