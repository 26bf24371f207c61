"""`distmed prepare` as a whole: what comes out, that it comes out the same, and that an interrupted run goes on."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from distmed.prepare import batches
from distmed.prepare import prepare as preparing
from distmed.prepare.manifest import Manifest
from distmed.prepare.open import open_source
from distmed.prepare.report import Report
from distmed.prepare.stages import Batch, Stages
from distmed.recipe import Source
from tests.prepare.conftest import PrepareDoor, note, rows_of

PLAIN = "--no-deidentify"


@pytest.fixture
def notes(table: Callable[..., Path]) -> Path:
    rows = rows_of(300)
    rows += [rows[0], {**rows[1], "text": rows[1]["text"].upper() + "!"}]  # duplicates to the word
    rows += [{**rows[2], "text": " "}, {**rows[3], "label": None}]
    return table(rows)


def test_what_goes_in_comes_out_or_is_counted(prepare: PrepareDoor, notes: Path, tmp_path: Path) -> None:
    done = prepare(notes, PLAIN, out=tmp_path / "out")
    report = done.report
    assert report["rows"] == 304
    assert report["dropped"] == {"clean": {"empty text": 1, "no label": 1}, "deduplicate": {"exact": 2}}
    manifest = Manifest.read(done.folder)
    manifest.verify(checksums=True)
    assert manifest.rows == 300 == report["splits"][""]["rows"]
    assert [case.text for case in done.cases()] == [row["text"] for row in rows_of(300)]
    assert {key: label.count for key, label in manifest.labels.items()} == {f"D{n}": 75 for n in range(4)}
    assert manifest.settings["deduplicate"] is True and manifest.settings["sources"][0]["name"] == "notes.jsonl"
    for line in ("rows read 304", "clean: no label -1", "deduplicate: exact -2", "cases written 300"):
        assert line in " ".join(done.said.split())


def test_the_same_input_gives_the_same_bytes_wherever_it_lies(
    prepare: PrepareDoor, table: Callable[..., Path], tmp_path: Path
) -> None:
    options = (PLAIN, "--columns", "text=text", "--columns", "label=label", "--group-by", "patient", "--augment", "120")
    rows = rows_of(400)
    for site in ("here/site", "there/site"):
        (tmp_path / site).mkdir(parents=True)
    first = prepare(table(rows, "here/site/notes.jsonl"), *options, out=tmp_path / "a")
    second = prepare(table(rows, "there/site/notes.jsonl"), *options, out=tmp_path / "b")
    assert first.shards() and first.shards() == second.shards()
    hashes = [{name: split["hash"] for name, split in done.report["splits"].items()} for done in (first, second)]
    assert hashes[0] == hashes[1]


@pytest.mark.slow
def test_the_number_of_processes_changes_nothing(
    prepare: PrepareDoor, notes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    alone = prepare(notes, PLAIN, out=tmp_path / "a")
    monkeypatch.setattr(batches, "BATCH_CHARS", 10)  # so that a full batch asks for processes
    monkeypatch.setattr(batches, "BATCH_ROWS", 50)
    shared = prepare(notes, PLAIN, "--num-workers", 2, out=tmp_path / "b")
    assert alone.shards() == shared.shards()


def test_a_finished_folder_is_not_done_again(
    prepare: PrepareDoor, notes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = prepare(notes, PLAIN, out=tmp_path / "out")
    monkeypatch.setattr(preparing, "Reader", None)
    again = prepare(notes, PLAIN, out=tmp_path / "out")
    assert "prepared already" in again.said and "cases written" in again.said
    assert again.report == first.report
    assert not (tmp_path / "out" / ".work").exists()


def test_a_folder_of_other_settings_or_sources_is_left_alone(prepare: PrepareDoor, notes: Path, tmp_path: Path) -> None:
    first = prepare(notes, PLAIN, out=tmp_path / "out").shards()
    assert "other settings" in prepare.refuse(notes, PLAIN, "--seed", 2, out=tmp_path / "out").message
    notes.write_text(notes.read_text() + json.dumps({"text": note(999), "label": "D1"}) + "\n")
    assert "other sources" in prepare.refuse(notes, PLAIN, out=tmp_path / "out").message
    assert {str(p.relative_to(tmp_path / "out")): p.read_bytes() for p in (tmp_path / "out").glob("*.parquet")} == first
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("all of it")
    assert "holds something else" in prepare.refuse(notes, PLAIN, out=tmp_path / "mine").message


def test_an_interrupted_run_continues_where_it_was(
    prepare: PrepareDoor, notes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batches, "BATCH_ROWS", 40)
    straight = prepare(notes, PLAIN, out=tmp_path / "straight")
    worked: list[int] = []
    whole = Stages.__call__

    def dies_at_the_fifth(self: Stages, batch: list) -> Batch:
        worked.append(len(batch))
        if len(worked) == 5:
            raise KeyboardInterrupt
        return whole(self, batch)

    monkeypatch.setattr(Stages, "__call__", dies_at_the_fifth)
    status, _, err = prepare._run(notes, PLAIN, out=tmp_path / "out")
    assert status == 130 and "the same command continues" in err
    assert not (tmp_path / "out" / "manifest.json").exists()
    done = prepare(notes, PLAIN, out=tmp_path / "out")
    assert len(worked) == 8 + 1  # 304 rows in batches of 40, and the one that died
    assert done.shards() == straight.shards()


def test_a_run_killed_while_it_writes_continues(
    prepare: PrepareDoor, notes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = (notes, PLAIN, "--group-by", "patient")
    straight = prepare(*options, out=tmp_path / "straight")
    written: list[str] = []
    write = preparing.write_shards

    def dies_at_the_second(cases, folder, **more):  # type: ignore[no-untyped-def]
        written.append(folder.name)
        if len(written) == 2:
            next(iter(cases))
            raise KeyboardInterrupt
        return write(cases, folder, **more)

    monkeypatch.setattr(preparing, "write_shards", dies_at_the_second)
    assert prepare._run(*options, out=tmp_path / "out")[0] == 130
    done = prepare(*options, out=tmp_path / "out")
    assert written == ["train", "dev", "dev", "test"]
    assert done.shards() == straight.shards()


def test_changed_settings_do_not_continue_what_was_interrupted(
    prepare: PrepareDoor, notes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    straight = prepare(notes, PLAIN, "--no-deduplicate", out=tmp_path / "straight")
    with monkeypatch.context() as patch:
        patch.setattr(preparing, "decide", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        assert prepare._run(notes, PLAIN, out=tmp_path / "out")[0] == 130
    done = prepare(notes, PLAIN, "--no-deduplicate", out=tmp_path / "out")
    assert done.shards() == straight.shards()


def test_what_an_unfinished_run_wrote_with_other_settings_goes(
    prepare: PrepareDoor, notes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(Report, "write", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        assert prepare._run(notes, PLAIN, "--group-by", "patient", out=tmp_path / "out")[0] == 130
    assert (tmp_path / "out" / "train" / "manifest.json").exists()
    prepare(notes, PLAIN, "--group-by", "patient", "--split", "old=0.5,new=0.5", out=tmp_path / "out")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["new", "old", "report.json"]


def test_train_opens_every_split_as_a_prepared_folder(prepare: PrepareDoor, notes: Path, tmp_path: Path) -> None:
    done = prepare(notes, PLAIN, "--group-by", "patient", out=tmp_path / "out")
    for name in ("train", "dev", "test"):
        manifest = open_source(Source(source=str(done.folder / name)), tmp_path / "cache")
        assert manifest.rows == done.report["splits"][name]["rows"]
    assert not (tmp_path / "cache").exists()


def test_several_sources_keep_their_places_apart(
    prepare: PrepareDoor, table: Callable[..., Path], tmp_path: Path
) -> None:
    rows = rows_of(20)
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    first, second = table(rows[:10], "a/x.jsonl"), table(rows[10:], "b/x.jsonl")
    done = prepare(first, second, PLAIN, out=tmp_path / "out")
    assert [case.text for case in done.cases()] == [row["text"] for row in rows]


def test_only_the_owner_can_read_what_is_written(prepare: PrepareDoor, notes: Path, tmp_path: Path) -> None:
    done = prepare(notes, PLAIN, "--group-by", "patient", out=tmp_path / "out")
    assert {path.stat().st_mode & 0o077 for path in done.folder.rglob("*") if path.is_file()} == {0}


@pytest.mark.slow
def test_a_killed_run_leaves_no_process_and_continues(
    prepare: PrepareDoor, table: Callable[..., Path], tmp_path: Path
) -> None:
    notes = table(rows_of(12_000))
    command = [
        sys.executable,
        "-m",
        "distmed",
        "prepare",
        notes,
        PLAIN,
        "--out",
        tmp_path / "out",
        "--num-workers",
        "2",
    ]
    run = subprocess.Popen(list(map(str, command)), stdout=subprocess.DEVNULL, start_new_session=True)
    deadline = time.monotonic() + 120
    while not list((tmp_path / "out").glob(".work/part-*.parquet")) and time.monotonic() < deadline:
        time.sleep(0.02)
    os.kill(run.pid, signal.SIGKILL)
    run.wait()
    while _alive_in(run.pid) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert _alive_in(run.pid) == []
    begun = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").glob(".work/part-*.parquet")}
    assert begun
    done = prepare(notes, PLAIN, out=tmp_path / "out")
    assert done.shards() == prepare(notes, PLAIN, out=tmp_path / "straight").shards()


def _alive_in(group: int) -> list[int]:
    """Processes of the session that still run."""
    alive = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rsplit(")", 1)[1].split()
        except OSError:
            continue
        if int(fields[3]) == group and fields[0] != "Z":
            alive.append(int(stat.parent.name))
    return alive
