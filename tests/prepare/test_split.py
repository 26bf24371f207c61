"""Split: groups stay whole, labels are spread, days are cut; what cannot be split so is refused."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from distmed.prepare.split import by_group
from tests.prepare.conftest import PrepareDoor, note, rows_of

Table = Callable[..., Path]
PLAIN = "--no-deidentify"
SPLITS = ("train", "dev", "test")


def test_groups_are_whole_and_labels_are_spread(prepare: PrepareDoor, table: Table, tmp_path: Path) -> None:
    done = prepare(table(rows_of(1200)), PLAIN, "--group-by", "patient", out=tmp_path / "out")
    cases = {name: done.cases(name) for name in SPLITS}
    groups = {name: {case.group for case in cases[name]} for name in SPLITS}
    assert sum(map(len, groups.values())) == len(set().union(*groups.values())) == 400
    for name, share in zip(SPLITS, (0.8, 0.1, 0.1), strict=True):
        assert len(cases[name]) == pytest.approx(1200 * share, rel=0.1)
        for count in Counter(case.label for case in cases[name]).values():
            assert count == pytest.approx(300 * share, rel=0.25)
    assert "train (" in done.said and "dev (" in done.said


def test_shares_and_names_can_be_chosen(prepare: PrepareDoor, table: Table, tmp_path: Path) -> None:
    done = prepare(
        table(rows_of(600)), PLAIN, "--group-by", "patient", "--split", "fit=0.5,check=0.5", out=tmp_path / "out"
    )
    assert [len(done.cases(name)) for name in ("fit", "check")] == [pytest.approx(300, abs=12)] * 2
    assert set(done.report["splits"]) == {"fit", "check"}


def test_another_seed_is_another_split_of_the_same_cases(prepare: PrepareDoor, table: Table, tmp_path: Path) -> None:
    source = table(rows_of(300))
    ids = []
    for seed in (1, 2):
        done = prepare(source, PLAIN, "--group-by", "patient", "--seed", seed, out=tmp_path / str(seed))
        ids.append([{case.id for case in done.cases(name)} for name in SPLITS])
    assert ids[0][1] != ids[1][1]
    assert set().union(*ids[0]) == set().union(*ids[1])


def test_a_label_of_one_group_can_be_learned() -> None:
    groups = np.arange(100, dtype=np.uint64)
    labels = np.concatenate([np.zeros(90), np.arange(1, 11)]).astype(np.int32)
    splits = by_group(groups, labels, (0.8, 0.1, 0.1), seed=1)
    assert (splits[90:] == 0).all()
    assert (splits == 1).sum() >= 8 and (splits == 2).sum() >= 8


def test_days_cut_the_splits_and_a_cut_begins_the_next(prepare: PrepareDoor, table: Table, tmp_path: Path) -> None:
    rows = [{"text": note(n), "label": "D", "seen": day} for n, day in enumerate(
        ["2019-12-31", "2020-01-01", "2020-06-01T10:00:00", "2021-01-01", "2022", "2018-05-05"])]  # fmt: skip
    done = prepare(table(rows), PLAIN, "--split-by-date", "seen=2020-01-01,2021-01-01", out=tmp_path / "out")
    assert [[case.text for case in done.cases(name)] for name in SPLITS] == [
        [note(0), note(5)], [note(1), note(2)], [note(3), note(4)]]  # fmt: skip
    one = prepare(table(rows), PLAIN, "--split-by-date", "seen=2020-01-01", out=tmp_path / "one")
    assert set(one.report["splits"]) == {"train", "test"}


def test_a_group_in_two_splits_is_an_error(prepare: PrepareDoor, table: Table, tmp_path: Path) -> None:
    rows = [{"text": note(n), "label": "D", "patient": p, "seen": day} for n, (p, day) in enumerate(
        [("A", "2019-01-01"), ("B", "2019-01-01"), ("C", "2022-01-01"), ("A", "2022-01-01")])]  # fmt: skip
    said = prepare.refuse(
        table(rows), PLAIN, "--group-by", "patient", "--split-by-date", "seen=2020-01-01", out=tmp_path / "out"
    )
    assert "1 of 3 groups are in two splits" in said.message and "case number 1" in said.message
    assert not list((tmp_path / "out").glob("*/manifest.json"))


def test_an_empty_split_is_refused(prepare: PrepareDoor, table: Table, tmp_path: Path) -> None:
    said = prepare.refuse(table(rows_of(6)), PLAIN, "--group-by", "patient", out=tmp_path / "out")
    assert "no case would be in" in said.message and "6 cases in 2 groups" in said.message


@pytest.mark.parametrize(
    ("options", "what"),
    [
        (["--split", "train=0.9"], "do not add up"),
        (["--split", "train"], "does not name splits"),
        (["--split", "a=0.5,a=0.5"], "must be different"),
        (["--split", "../x=0.5,b=0.5"], "must be different"),
        (["--split-by-date", "seen=yesterday"], "names no days"),
        (["--split-by-date", "2020-01-01"], "names no days"),
        (["--split-by-date", "seen=2021-01-01,2020-01-01"], "in order"),
        (["--split", "a=0.5,b=0.5", "--split-by-date", "seen=2020-01-01"], "two ways to split"),
        (["--group-by", "nobody"], "lacks the column nobody"),
        (["--split-by-date", "text=2020-01-01"], "has no date in `text`"),
        (["--columns", "text"], "is not ROLE=COLUMN"),
        (["--columns", "txet=text"], "unknown role `txet`"),
        (["--format", "phenopacket"], "unknown format"),
    ],
)
def test_options_that_make_no_sense_are_refused(
    options: list[str], what: str, prepare: PrepareDoor, table: Table, tmp_path: Path
) -> None:
    assert what in prepare.refuse(table(rows_of(30)), PLAIN, *options, out=tmp_path / "out").message


def test_a_row_without_its_group_is_refused_by_line(prepare: PrepareDoor, table: Table, tmp_path: Path) -> None:
    rows = [*rows_of(5), {"text": note(9), "label": "D", "patient": ""}]
    said = prepare.refuse(table(rows), PLAIN, "--group-by", "patient", out=tmp_path / "out").message
    assert "line 6 has nothing in `patient`" in said
