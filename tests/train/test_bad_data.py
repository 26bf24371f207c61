"""What is wrong with the data is told in two lines, with status 2, nothing left behind, and no word of a patient."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pyarrow.parquet import ParquetFile

from distmed.cases.synthetic import patients
from distmed.prepare.shards import write_shards
from distmed.stream import counts
from distmed.train import beginning
from tests.train.conftest import Run
from tests.train.door import NAME, SMALL, Door

TABLE = ["data.train.0.source=train.csv", "data.train.0.limit=null", "data.eval=[]", "checkpoint.best=eval/loss"]
pass_over_data = pytest.mark.usefixtures("ray_address")


def write_table(path: Path, header: str, *rows: str) -> None:
    path.write_text("\n".join([header, *rows]) + "\n")


# ------------------------------------------------------------------ the data, as far as its first case


@pytest.mark.parametrize(
    ("override", "message", "hint"),
    [
        ("data.train.0.source=gone.csv", "not found: gone.csv", "name a file"),
        ("data.eval.0.source=gone.csv", "not found: gone.csv", "name a file"),
        ("data.train.0.source=builtin:patience", "builtin:patience", "builtin:patients"),
    ],
)
def test_a_source_that_is_not_there(early: Door, override: str, message: str, hint: str) -> None:
    refusal = early.refuse(override)
    assert message in refusal.message
    assert hint in refusal.hint


def test_a_format_that_is_unknown(early: Door) -> None:
    write_table(early.folder / "train.csv", "text,label", "fever,flu")
    refusal = early.refuse(*TABLE, "data.train.0.format=phenopacket")
    assert "unknown format: phenopacket" in refusal.message
    assert "did you mean `phenopackets`?" in refusal.hint


def test_a_column_that_is_missing(early: Door) -> None:
    write_table(early.folder / "train.csv", "story,diagnosis", "fever,flu")
    refusal = early.refuse(*TABLE)
    assert "lacks the column text" in refusal.message
    assert "story, diagnosis" in refusal.hint


@pytest.mark.parametrize("rows", [[], ["text,label"]])
def test_an_empty_data_set(early: Door, rows: list[str]) -> None:
    (early.folder / "train.csv").write_text("\n".join(rows))
    refusal = early.refuse(*TABLE)
    assert "train.csv holds no cases" in refusal.message


def test_filters_that_leave_nothing(early: Door) -> None:
    write_table(early.folder / "train.csv", "text,label,site", "fever,flu,a")
    refusal = early.refuse(*TABLE, "data.train.0.where={site: b}")
    assert "all were dropped: where (1)" in refusal.message
    assert "loosen `where`" in refusal.hint


# ------------------------------------------------------------------ what takes a pass over the data


@pass_over_data
def test_a_row_without_a_label(door: Door) -> None:
    write_table(door.folder / "train.csv", "text,label", "fever,flu", "a secret word,")
    refusal = door.refuse(*TABLE)
    assert "train.csv line 3" in refusal.message and "has no label" in refusal.message
    assert "secret" not in refusal.message + refusal.hint


@pass_over_data
def test_a_single_label(door: Door) -> None:
    write_table(door.folder / "train.csv", "text,label", "fever,flu", "cough,flu")
    assert "every case in data.train has the label flu" in door.refuse(*TABLE).message


@pass_over_data
def test_labels_that_training_never_had(door: Door) -> None:
    write_table(door.folder / "train.csv", "text,label", "fever,flu", "cough,croup")
    write_table(door.folder / "eval.csv", "text,label", "itch,scabies", "fever,flu", "rash,measles", "spots,measles")
    source = ["data.train.0.source=train.csv", "data.eval.0.source=eval.csv", "data.eval.0.limit=null"]
    refusal = door.refuse(*source)
    assert "3 cases have one of 2 labels that training never had" in refusal.message
    assert "scabies" in refusal.message and "measles" in refusal.message
    assert "data.unknown_labels=count" in refusal.hint


@pass_over_data
@pytest.mark.parametrize(
    ("answer", "settings", "message"),
    [
        ("", [], "has no answer"),
        ("a flu", ["data.seq_len=16", "data.long_cases=cut"], "2 cases have no token to learn from"),
        ("a flu", ["data.seq_len=16"], "2 of 2 cases are longer than data.seq_len=16"),
    ],
)
def test_every_token_is_masked(door: Door, answer: str, settings: list[str], message: str) -> None:
    write_table(door.folder / "train.csv", "question,reply", *[f"{'fever and cough ' * 20},{answer}"] * 2)
    columns = ["task=generate", "data.train.0.columns={text: question, answer: reply}"]
    refusal = door.refuse(*TABLE, *columns, *settings)
    assert message in refusal.message
    assert "fever" not in refusal.message + refusal.hint


@pass_over_data
def test_what_took_long_to_count_is_not_counted_again_after_a_refusal(
    door: Door, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(beginning, "KEEP_COUNTS_S", 0.0)
    write_table(door.folder / "train.csv", "text,label", f"{'fever and cough ' * 20},flu", "itch,scabies")
    too_long = [*TABLE, "data.seq_len=16"]
    assert door.status(*too_long) == 2
    assert [path.name for path in (door.folder / "runs" / NAME).iterdir()] == ["data"]

    def count_group(*_: Any) -> None:
        raise AssertionError("counted again")

    monkeypatch.setattr(counts, "count_group", count_group)
    assert "1 of 2 cases are longer than data.seq_len=16" in door.refuse(*too_long).message


@pass_over_data
def test_a_generator_without_labels_has_no_diagnosis_to_be_best_at(door: Door) -> None:
    write_table(door.folder / "train.csv", "question,reply", "what helps,rest", "what else,tea")
    source = "{source: train.csv, columns: {text: question, answer: reply}}"
    settings = ["task=generate", f"data.train=[{source}]", f"data.eval=[{source}]", "checkpoint.best=diag/top1"]
    refusal = door.refuse(*settings)
    assert "no evaluation gives diag/top1" in refusal.message and "eval/loss" in refusal.hint


# ------------------------------------------------------------------ what the recipe says to leave out


def damaged(folder: Path) -> Path:
    """60 built-in patients in row groups of 10, of which the second cannot be read."""
    manifest = write_shards(patients("eval", 60), folder, format="patients", rows_per_group=10)
    path = folder / manifest.shards[0].path
    content = bytearray(path.read_bytes())
    first, last = (ParquetFile(path).metadata.row_group(g).column(0) for g in (1, 2))
    begin, end = (chunk.dictionary_page_offset or chunk.data_page_offset for chunk in (first, last))
    content[begin:end] = b"\xff" * (end - begin)
    path.write_bytes(content)
    return folder


@pytest.mark.slow
def test_what_cannot_be_read_of_the_eval_cases_is_left_out_of_the_evaluation(
    train: Callable[..., Run], tmp_path: Path
) -> None:
    folder = damaged(tmp_path / "eval")
    source = [f"data.eval.0.source={folder}", "data.eval.0.limit=null", "data.unknown_labels=count"]
    skip = [
        "data.on_error=skip",
        "data.skip_budget=0.2",
        "train.linear_floor=true",
        "train.max_steps=2",
        "cluster.stall_timeout_s=60",
    ]
    run = train("holes", *SMALL, *source, *skip, "--num-workers", "2", env={"WANDB_MODE": "disabled"})
    right = run.summary["eval"]["diag/top1"] * 50
    assert right == pytest.approx(round(right)), "of 50 cases"
    assert set(run.summary["floors"]) == {"linear", "majority"}
