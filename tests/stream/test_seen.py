from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from pathlib import Path

from distmed.prepare.shards import write_shards
from distmed.recipe import check
from distmed.stream.seen import sightings
from tests.stream.conftest import patients


def test_the_runs_that_had_a_patient_are_found_by_case_and_by_group(tmp_path: Path) -> None:
    cases = [dataclasses.replace(case, group=f"patient-{n // 2}") for n, case in enumerate(patients(20))]
    write_shards(cases[:10], tmp_path / "one", format="columns", rows_per_group=3)
    write_shards(cases[10:], tmp_path / "other", format="columns", rows_per_group=3)
    for name, sources in {"a": ["one"], "b": ["other"], "c": ["one", "other"]}.items():
        run = tmp_path / "runs" / name
        run.mkdir(parents=True)
        recipe = check(
            {
                "name": name,
                "task": "classify",
                "model": {"path": "none"},
                "data": {"train": [{"source": str(tmp_path / source)} for source in sources]},
            }
        )
        (run / "recipe.yaml").write_text(recipe.to_yaml())
        (run / "metrics.jsonl").write_text(json.dumps({"step": 3, "train/epoch": 1.5}) + "\n")
    found = list(sightings(tmp_path / "runs", {"patient-2"}))
    assert [(each.run, each.source, each.cases, each.epochs) for each in found] == [
        ("a", "data.train.0", ["case-4", "case-5"], 1.5),
        ("c", "data.train.0", ["case-4", "case-5"], 1.5),
    ]
    assert [each.run for each in sightings(tmp_path / "runs", {"case-12"})] == ["b", "c"]
    assert not list(sightings(tmp_path / "runs", {"case-99"}))
    command = [sys.executable, "-m", "distmed.stream.seen", str(tmp_path / "runs"), "patient-7"]
    told = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert told.splitlines()[-1] == "2 runs" and "c  data.train.1  2 cases (case-14, case-15), 1.50 epochs" in told
