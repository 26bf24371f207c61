from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from distmed.cases.case import Case
from distmed.errors import UserError
from distmed.prepare import open as opening
from distmed.prepare.manifest import Manifest
from distmed.prepare.open import open_source
from distmed.prepare.shards import read_cases_of, write_shards
from distmed.recipe import Source


def cases(count: int) -> Iterator[Case]:
    for number in range(count):
        yield Case(
            id=f"p{number}",
            kind="diagnosis",
            group=f"paper-{number // 3}",
            findings=("fever", f"finding {number}"),
            excluded=("rash",) * (number % 3),
            sex="female" if number % 2 else None,
            age_years=number / 2 if number % 5 else None,
            label=f"D{number % 3}",
            label_name=f"disease {number % 3}",
            messages=(("user", "why?"), ("assistant", "because")) if number % 4 == 0 else (),
            differential=(("D1", 0.25), ("D2", 0.75)) if number % 4 == 1 else (),
            subgroups={"sex": "female"} if number % 2 else {},
        )


@pytest.fixture
def prepared(tmp_path: Path) -> Manifest:
    return write_shards(cases(100), tmp_path / "cases", format="columns", rows_per_group=8, shard_bytes=9000)


def complaint(manifest: Manifest, *, checksums: bool = False) -> str:
    with pytest.raises(UserError) as raised:
        Manifest.read(manifest.folder).verify(checksums=checksums)
    assert "\n" not in raised.value.message
    return raised.value.message


def test_what_is_written_is_read_again(prepared: Manifest) -> None:
    assert list(read_cases_of(Manifest.read(prepared.folder))) == list(cases(100))


def test_the_manifest_says_what_the_shards_hold(prepared: Manifest) -> None:
    values = json.loads((prepared.folder / "manifest.json").read_text())
    assert set(values) >= {"format", "rows", "labels", "hash", "shards", "dropped"}
    assert set(values["shards"][0]) == {"path", "rows", "row_groups", "bytes", "sha256"}
    assert values["rows"] == 100 == sum(shard["rows"] for shard in values["shards"])
    assert len(values["shards"]) > 2
    assert all(sum(shard["row_groups"]) == shard["rows"] for shard in values["shards"])
    assert values["labels"] == {f"D{n}": {"name": f"disease {n}", "count": 33 + (n == 0)} for n in range(3)}
    assert Manifest.read(prepared.folder) == prepared
    assert Manifest.read(prepared.folder).hash == values["hash"]


def test_the_same_cases_give_the_same_bytes(prepared: Manifest, tmp_path: Path) -> None:
    again = write_shards(cases(100), tmp_path / "again", format="columns", rows_per_group=8, shard_bytes=9000)
    names = sorted(path.name for path in prepared.folder.iterdir())
    assert names == sorted(path.name for path in again.folder.iterdir())
    for name in names:
        assert (prepared.folder / name).read_bytes() == (again.folder / name).read_bytes()


def test_only_the_owner_can_read_patients(prepared: Manifest) -> None:
    assert {path.stat().st_mode & 0o077 for path in prepared.folder.iterdir()} == {0}


def test_a_truncated_shard_is_named(prepared: Manifest) -> None:
    shard = prepared.folder / "00001.parquet"
    shard.write_bytes(shard.read_bytes()[:-10])
    said = complaint(prepared)
    assert "truncated" in said and str(shard) in said and f"{prepared.shards[1].bytes} bytes" in said


def test_a_missing_shard_is_named(prepared: Manifest) -> None:
    (prepared.folder / "00002.parquet").unlink()
    assert f"missing: {prepared.folder / '00002.parquet'}" in complaint(prepared)


def test_a_changed_shard_of_the_same_size_is_named(prepared: Manifest) -> None:
    shard = prepared.folder / "00000.parquet"
    content = bytearray(shard.read_bytes())
    content[50] ^= 1
    shard.write_bytes(content)
    Manifest.read(prepared.folder).verify(checksums=False)
    assert f"changed: {shard}" in complaint(prepared, checksums=True)


def test_an_extra_shard_is_named(prepared: Manifest) -> None:
    (prepared.folder / "other.parquet").write_bytes(b"")
    assert "other.parquet" in complaint(prepared)


def test_an_edited_manifest_is_refused(prepared: Manifest) -> None:
    path = prepared.folder / "manifest.json"
    path.write_text(path.read_text().replace('"format": "columns"', '"format": "medquad"'))
    assert "was changed after it was written" in complaint(prepared)
    path.write_text("{")
    assert "is no manifest" in complaint(prepared)


def test_an_unreadable_row_group_names_the_shard(prepared: Manifest) -> None:
    shard = prepared.folder / "00000.parquet"
    shard.write_bytes(b"no parquet")
    with pytest.raises(UserError, match=r"00000\.parquet"):
        list(read_cases_of(prepared))


def test_no_case_is_an_error_and_leaves_no_manifest(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no case"):
        write_shards([], tmp_path / "none", format="columns")
    assert not (tmp_path / "none" / "manifest.json").exists()


def test_an_interrupted_folder_is_written_anew(tmp_path: Path) -> None:
    def interrupted() -> Iterator[Case]:
        yield from cases(40)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_shards(interrupted(), tmp_path / "cases", format="columns", rows_per_group=8, shard_bytes=9000)
    assert not (tmp_path / "cases" / "manifest.json").exists()
    manifest = write_shards(cases(10), tmp_path / "cases", format="columns")
    manifest.verify(checksums=True)


@pytest.fixture
def table(tmp_path: Path) -> Source:
    path = tmp_path / "patients.jsonl"
    path.write_text("".join(json.dumps({"text": f"fever {n}", "label": f"D{n % 2}"}) + "\n" for n in range(30)))
    return Source(source=str(path), format="columns", columns={"text": "text", "label": "label"})


def test_a_raw_source_is_prepared_once(table: Source, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = open_source(table, tmp_path / "cache")
    assert first.rows == 30 and set(first.labels) == {"D0", "D1"}
    monkeypatch.setattr(opening, "write_shards", None)
    assert open_source(table, tmp_path / "cache") == first


def test_a_changed_file_or_spec_is_prepared_again(table: Source, tmp_path: Path) -> None:
    first = open_source(table, tmp_path / "cache")
    assert open_source(table.model_copy(update={"limit": 7}), tmp_path / "cache").rows == 7
    path = Path(table.source)
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:20]))
    second = open_source(table, tmp_path / "cache")
    assert (second.rows, first.rows) == (20, 30)
    assert second.hash != first.hash


@pytest.mark.parametrize(
    ("written", "named"),
    [("notes[1].jsonl", "notes[1].jsonl"), ("home.jsonl", "~/home.jsonl"), ("~x.jsonl", "~x.jsonl")],
)
def test_a_source_that_exists_is_no_pattern_and_a_tilde_is_the_home_folder(
    written: str, named: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def write(rows: int) -> None:
        (tmp_path / written).write_text('{"text": "a", "label": "x"}\n' * rows)

    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "notes1.jsonl").write_text('{"text": "another file", "label": "x"}\n')
    source = Source(source=named)
    write(1)
    assert opening.source_content(source)
    assert open_source(source, tmp_path / "cache").rows == 1
    write(2)  # is noticed
    assert open_source(source, tmp_path / "cache").rows == 2


def test_a_prepared_folder_in_the_home_folder_is_opened_there(
    prepared: Manifest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    opened = open_source(Source(source=f"~/{prepared.folder.name}"), tmp_path / "cache")
    assert opened.folder == prepared.folder and not (tmp_path / "cache").exists()


def test_dropped_rows_are_counted_by_rule(table: Source, tmp_path: Path) -> None:
    manifest = open_source(table.model_copy(update={"where": {"label": "D1"}}), tmp_path / "cache")
    assert (manifest.rows, sum(manifest.dropped.values())) == (15, 15)


def test_a_prepared_folder_is_opened_where_it_lies(prepared: Manifest, tmp_path: Path) -> None:
    assert open_source(Source(source=str(prepared.folder)), tmp_path / "cache") == prepared
    assert not (tmp_path / "cache").exists()
    with pytest.raises(UserError, match="`limit` has no effect"):
        open_source(Source(source=str(prepared.folder), limit=3), tmp_path / "cache")


def test_the_built_in_patients_are_prepared_the_same_twice(tmp_path: Path) -> None:
    source = Source(source="builtin:patients/eval", limit=50)
    assert open_source(source, tmp_path / "a").hash == open_source(source, tmp_path / "b").hash
