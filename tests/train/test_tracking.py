"""What is recorded of a run, and what never is. No network: W&B runs offline or not at all."""

from __future__ import annotations

import json
import math
import os
import struct
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from distmed.errors import UserError
from distmed.evaluate.metrics import Confusion, DiseaseRow
from distmed.evaluate.plots import Line, Plot
from distmed.recipe import Recipe
from distmed.recipe_file import check
from distmed.rundir import RunDir
from distmed.train import tracking
from distmed.train.tracking import Tracker, cut_back, wandb_mode


@pytest.fixture(autouse=True)
def no_key(tmp_path, monkeypatch):
    for name in ("WANDB_API_KEY", "WANDB_IDENTITY_TOKEN_FILE", "WANDB_BASE_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    monkeypatch.setenv("WANDB_DATA_DIR", str(tmp_path / "wandb_data"))
    monkeypatch.setenv("WANDB_MODE", "disabled")


def recipe(**tracking_values: Any) -> Recipe:
    return check(
        {
            "name": "demo",
            "task": "classify",
            "model": {"path": "somewhere"},
            "data": {"train": [{"source": "https://user:hunter2@host/x.csv?signature=hunter3"}]},
            "tracking": tracking_values,
        }
    )


def lines(run: RunDir) -> list[dict[str, Any]]:
    return [json.loads(line, parse_constant=pytest.fail) for line in run.metrics.read_text().splitlines()]


def records(run: RunDir) -> list[Any]:
    """What the offline W&B runs of this directory would upload."""
    from wandb.proto import wandb_internal_pb2

    found = []
    for file in sorted(run.wandb.glob("offline-run-*/*.wandb")):
        for data in log_entries(file.read_bytes()):
            record = wandb_internal_pb2.Record()
            record.ParseFromString(data)
            found.append(record)
    return found


def log_entries(content: bytes, block: int = 32768, header: int = 7) -> Iterator[bytes]:
    """LevelDB's log format behind a header of 7 bytes: chunks of checksum (4 bytes), length (2) and kind (1)."""
    position, entry = header, b""
    while position + header <= len(content):
        if block - position % block < header:
            position += block - position % block
            continue
        length, kind = struct.unpack_from("<HB", content, position + 4)
        entry += content[position + header : position + header + length]
        position += header + length
        if kind in (1, 4):  # a whole entry, or the last part of one
            yield entry
            entry = b""


def history(run: RunDir) -> list[dict[str, Any]]:
    return [
        {".".join(item.nested_key) or item.key: json.loads(item.value_json) for item in record.history.item}
        for record in records(run)
        if record.HasField("history")
    ]


def test_each_step_is_a_line_that_can_be_read_at_once(tmp_path):
    run = RunDir(tmp_path / "demo")
    tracker = Tracker(recipe(), run)
    tracker.attempt_starts(0, 1)
    tracker.log(1, {"train/loss": 0.1 + 0.2})
    assert lines(run) == [{"step": 1, "attempt": 1, "train/loss": 0.1 + 0.2}]
    tracker.log_tables(1, [Confusion("flu", "cold", 3)], [])
    assert len(lines(run)) == 1


def test_numbers_that_json_lacks_are_null(tmp_path):
    run = RunDir(tmp_path / "demo")
    Tracker(recipe(), run).log(1, {"a": math.nan, "b": -math.inf, "c": 3})
    assert lines(run) == [{"step": 1, "attempt": 1, "a": None, "b": None, "c": 3}]


def test_restart_cuts_what_will_be_repeated_and_numbers_the_attempt(tmp_path):
    run = RunDir(tmp_path / "demo")
    tracker = Tracker(recipe(), run)
    tracker.attempt_starts(0, 1)
    for step in (10, 20, 30):
        tracker.log(step, {"train/loss": 1.0})
    tracker.attempt_starts(10, 2)
    tracker.log(20, {"train/loss": 1.0})
    assert [(line["step"], line["attempt"]) for line in lines(run)] == [(10, 1), (20, 2)]


def test_half_written_line_is_cut(tmp_path):
    file = tmp_path / "metrics.jsonl"
    file.write_text('{"step": 1, "attempt": 1}\n{"step": 2, "att')
    cut_back(file, 5)
    assert file.read_text() == '{"step": 1, "attempt": 1}\n'
    assert list(tmp_path.iterdir()) == [file]


def test_disabled_does_not_import_wandb(tmp_path):
    code = (
        "import sys; from distmed.recipe_file import load_recipe; from distmed.rundir import RunDir\n"
        "from distmed.train.tracking import Tracker\n"
        f"t = Tracker(load_recipe({str(tmp_path / 'r.yaml')!r}), RunDir({str(tmp_path / 'run')!r}))\n"
        "t.log(1, {'a': 1.0}); t.finish({}); assert 'wandb' not in sys.modules"
    )
    (tmp_path / "r.yaml").write_text(recipe(wandb="disabled").to_yaml())
    environment = {name: value for name, value in os.environ.items() if name != "WANDB_MODE"}
    subprocess.run([sys.executable, "-c", code], check=True, env=environment)
    assert not (tmp_path / "run" / "wandb").exists()


def test_environment_goes_before_the_recipe(monkeypatch):
    assert wandb_mode("online") == "disabled"
    monkeypatch.setenv("WANDB_MODE", "dryrun")
    assert wandb_mode("online") == "offline"
    monkeypatch.setenv("WANDB_MODE", "")
    assert wandb_mode("online") == "online"
    monkeypatch.setenv("WANDB_MODE", "sideways")
    with pytest.raises(UserError, match="WANDB_MODE=sideways"):
        wandb_mode("auto")


def test_auto_is_online_only_with_a_key(tmp_path, monkeypatch):
    monkeypatch.delenv("WANDB_MODE")
    assert wandb_mode("auto") == "offline"
    (tmp_path / "netrc").write_text("machine elsewhere.org login u password p\n")
    assert wandb_mode("auto") == "offline"
    (tmp_path / "netrc").write_text("machine api.wandb.ai login user password p\n")
    assert wandb_mode("auto") == "online"
    (tmp_path / "netrc").unlink()
    monkeypatch.setenv("WANDB_API_KEY", "x")
    assert wandb_mode("auto") == "online"


@pytest.fixture
def offline_run(tmp_path, monkeypatch, capfd) -> RunDir:
    """Two attempts, the second in a new process's place, as after --resume."""
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setattr(sys, "argv", ["train", "--token=hunter4"])
    monkeypatch.chdir(tmp_path)
    identity = ["-c", "user.name=hunter5", "-c", "user.email=hunter5@example.org"]
    subprocess.run(["git", "init", "-q"], check=True)
    subprocess.run(["git", *identity, "commit", "-q", "--allow-empty", "-m", "x"], check=True)
    run = RunDir(tmp_path / "demo")
    settings = recipe(project="p", group="g", tags=["t1", "t2"])
    first = Tracker(settings, run)
    first.attempt_starts(0, 1)
    first.log(1, {"train/loss": 3.0})
    first.log(2, {"train/loss": math.nan})
    confusion = [Confusion("flu", "cold", 6), Confusion("cold", "measles", 3)]
    rows = [DiseaseRow("flu", 9, 0.5, None, True), DiseaseRow("measles", 4, 0.5, None, True)]
    first.log_tables(2, confusion, rows, [Plot("diag/roc", "ROC", "rate", (Line("all", [0.0, 1.0], [0.5, 1.0]),))])
    first.finish({"steps": 2, "eval": {"diag/top1": 0.5}})
    second = Tracker(settings, run)
    second.attempt_starts(1, 2)
    second.log(2, {"train/loss": 2.0})
    second.finish({})
    assert first.notes == second.notes == []
    assert capfd.readouterr() == ("", "")
    return run


@pytest.mark.slow
def test_offline_run_is_one_run_with_the_same_names(offline_run):
    runs = [record.run for record in records(offline_run) if record.HasField("run")]
    assert len({one.run_id for one in runs}) == 1
    assert runs[0].run_id == (offline_run.wandb / "run_id").read_text().strip()
    assert (runs[0].project, runs[0].run_group, list(runs[0].tags)) == ("p", "g", ["t1", "t2"])
    assert runs[0].display_name == "demo"
    config = {item.key: json.loads(item.value_json) for item in runs[0].config.update}
    assert config["optimizer"]["lr"] == 3e-4
    steps = [
        {"step": row["step"], "attempt": row["attempt"], "train/loss": row["train/loss"]}
        for row in history(offline_run)
        if "train/loss" in row and row["train/loss"] == row["train/loss"]
    ]
    assert {"step": 1, "attempt": 1, "train/loss": 3.0} in steps
    assert {"step": 2, "attempt": 2, "train/loss": 2.0} in steps
    metrics = [record.metric for record in records(offline_run) if record.HasField("metric")]
    assert any(metric.glob_name == "*" and metric.step_metric == "step" for metric in metrics)
    exits = [record.exit.exit_code for record in records(offline_run) if record.HasField("exit")]
    assert exits == [0, 1]


@pytest.mark.slow
def test_evaluation_tables_name_classes(offline_run):
    row = next(row for row in history(offline_run) if "diag/per_disease._type" in row)
    assert row["step"] == 2
    assert row["diag/per_disease._type"] == "table-file"
    files = list(offline_run.wandb.rglob("confusion_table*.table.json"))
    assert any(json.loads(file.read_text())["data"] == [["flu", "cold", 6]] for file in files)


@pytest.mark.slow
def test_cells_of_fewer_than_five_patients_stay_here(offline_run):
    tables = [file.read_text() for file in offline_run.wandb.rglob("*.table.json")]
    assert any("flu" in table for table in tables)
    assert not any("measles" in table for table in tables)


@pytest.mark.slow
def test_plots_of_an_evaluation_are_charts(offline_run):
    assert any(name.startswith("diag/roc_table") for row in history(offline_run) for name in row)


@pytest.mark.slow
def test_nothing_but_recipe_and_numbers_leaves(offline_run):
    uploaded = b"".join(record.SerializeToString() for record in records(offline_run))
    for secret in (b"hunter", b"signature", b"requirements.txt", b"wandb-metadata"):
        assert secret not in uploaded
    assert not any(record.HasField("environment") for record in records(offline_run))
    assert not [file for file in offline_run.wandb.rglob("code/*") if file.is_file()]
    run = next(record.run for record in records(offline_run) if record.HasField("run"))
    assert not run.host
    assert not run.git.commit


@pytest.mark.slow
def test_what_is_printed_stays_here(tmp_path, monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "offline")
    run = RunDir(tmp_path / "run")
    (tmp_path / "r.yaml").write_text(recipe().to_yaml())
    code = (
        "from distmed.recipe_file import load_recipe; from distmed.rundir import RunDir\n"
        "from distmed.train.tracking import Tracker\n"
        f"t = Tracker(load_recipe({str(tmp_path / 'r.yaml')!r}), RunDir({str(run.path)!r}))\n"
        "print('hunter6'); t.log(1, {'a': 1.0}); t.finish({'steps': 1})"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("hunter6\n", "")
    assert history(run)[0]["a"] == 1.0
    assert not any(b"hunter6" in file.read_bytes() for file in run.wandb.rglob("*") if file.is_file())


@pytest.mark.slow
def test_service_out_of_reach_leaves_an_offline_run(tmp_path, monkeypatch):
    import wandb

    monkeypatch.setenv("WANDB_MODE", "online")
    monkeypatch.setenv("WANDB_API_KEY", "0" * 40)
    real = wandb.init

    def init(**options: Any) -> Any:
        if options["mode"] == "online":
            raise wandb.errors.CommError("cannot reach api with key 000")
        return real(**options)

    monkeypatch.setattr(wandb, "init", init)
    run = RunDir(tmp_path / "demo")
    tracker = Tracker(recipe(), run)
    tracker.log(1, {"train/loss": 1.0})
    tracker.finish({"steps": 1})
    assert tracker.notes == ["W&B cannot be reached (CommError): this run is tracked offline"]
    assert history(run)[0]["train/loss"] == 1.0


@pytest.mark.slow
def test_service_that_fails_later_does_not_end_the_run(tmp_path, monkeypatch):
    import wandb

    monkeypatch.setenv("WANDB_MODE", "offline")

    class Broken:
        def log(self, record: dict[str, Any]) -> None:
            raise wandb.Error("gone")

        def define_metric(self, *names: str, **options: Any) -> None: ...

    monkeypatch.setattr(tracking, "_init", lambda *_: Broken())
    run = RunDir(tmp_path / "demo")
    tracker = Tracker(recipe(), run)
    for step in (1, 2):
        tracker.log(step, {"train/loss": 1.0})
    tracker.finish({"steps": 2})
    assert len(lines(run)) == 2
    assert tracker.notes == ["W&B stopped (Error): metrics.jsonl goes on without it"]
