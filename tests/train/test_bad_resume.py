"""A run goes on only from what it began with, and from the newest checkpoint that is whole."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from distmed.checkpoint.storage import Storage
from tests.train.conftest import Run
from tests.train.door import NAME, SMALL, Door

pytestmark = pytest.mark.slow


@pytest.fixture
def run(small: Run, tmp_path: Path) -> Run:
    """A copy of the small run, where `door` finds it."""
    shutil.copytree(small.path, tmp_path / "runs" / NAME)
    return Run(tmp_path / "runs" / NAME)


@pytest.fixture
def base(run: Run, tmp_path: Path) -> Path:
    """The run's model folder, copied to be changed."""
    return Path(shutil.copytree(run.path / "base", tmp_path / "base"))


def change(path: Path, **values: Any) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


def truncate(run: Run, checkpoint: str) -> None:
    file = next((run.path / "checkpoints" / checkpoint).glob("*.safetensors"))
    file.write_bytes(file.read_bytes()[:-1000])


def test_another_model(run: Run, base: Path, early: Door) -> None:
    change(base / "config.json", num_hidden_layers=2)
    refusal = early.refuse("--resume", f"model.path={base}")
    assert f"{run.checkpoints[-1]} was trained from another model than {base}" in refusal.message
    assert "put back" in refusal.hint and "--name" in refusal.hint


def test_a_storage_that_is_back_soon_is_waited_for_and_that_is_said_once(
    run: Run, base: Path, early: Door, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """A job that was requeued has nobody to start it once more."""
    change(base / "config.json", num_hidden_layers=2)
    faults = [OSError(107, "Transport endpoint is not connected")] * 3
    real = Storage.children

    def children(where: Storage) -> dict[str, dict[str, Any]]:
        if faults:
            raise faults.pop()
        return real(where)

    monkeypatch.setattr(Storage, "children", children)
    assert early.status("--resume", f"model.path={base}", "checkpoint.retry_s=8") == 2
    out, err = capfd.readouterr()
    told = f"{run.path / 'checkpoints'} cannot be read ([Errno 107] Transport endpoint is not connected)"
    assert out.count(told) == 1 and "tried again for 8 s (checkpoint.retry_s)" in out
    assert "was trained from another model" in err


def test_a_storage_that_stays_away_is_given_up(run: Run, early: Door, monkeypatch: pytest.MonkeyPatch) -> None:
    def children(where: Storage) -> dict[str, dict[str, Any]]:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(Storage, "children", children)
    refusal = early.refuse("--resume", "checkpoint.retry_s=1", f"checkpoint.storage_path={run.path.parent}")
    assert refusal.message.startswith(f"checkpoint.storage_path: cannot write to {run.path.parent}: OSError")


def test_another_tokenizer(run: Run, base: Path, early: Door) -> None:
    (base / "chat_template.jinja").write_text("{{ messages }}")
    refusal = early.refuse("--resume", f"model.path={base}")
    assert f"was trained from another model and tokenizer than {base}" in refusal.message


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("data.train.0.limit=90", "data manifest (was "),
        ("data.seq_len=120", "data.seq_len (was 128, now 120)"),
        ("train.seed=7", "train.seed (was 1, now 7)"),
    ],
)
@pytest.mark.usefixtures("run", "ray_address")
def test_other_data(door: Door, override: str, said: str) -> None:
    refusal = door.refuse("--resume", override)
    assert "another stream of cases" in refusal.message and said in refusal.message
    assert "set it back" in refusal.hint and "another name" in refusal.hint


@pytest.mark.usefixtures("run", "ray_address")
def test_a_run_is_resumed_by_its_own_recipe_where_none_is_named(door: Door) -> None:
    door.settings = ["--name", NAME]
    refusal = door.refuse("--resume", "train.seed=7")
    assert refusal.message.endswith("another stream of cases: train.seed (was 1, now 7)")


def test_a_truncated_checkpoint_is_passed_over_and_said_so(small: Run, resumed: Callable[..., tuple[Run, str]]) -> None:
    newest, before = small.checkpoints[-1], small.checkpoints[-2]
    run, output = resumed("cut-newest", newest)
    assert f"note: skipped {newest}: " in output and " bytes" in output
    assert f"note: resumed after step {int(before.split('-')[1])}" in output
    assert run.losses == small.losses
    assert run.summary["eval"] == small.summary["eval"]


def test_a_run_without_a_whole_checkpoint_begins_again_and_says_so(
    small: Run, resumed: Callable[..., tuple[Run, str]]
) -> None:
    run, output = resumed("cut-all", *small.checkpoints)
    assert f"note: none of {len(small.checkpoints)} checkpoints is whole: starts from the beginning" in output
    assert run.losses == small.losses


def test_a_finished_run_keeps_what_was_measured_when_it_is_resumed(
    small: Run, resumed: Callable[..., tuple[Run, str]]
) -> None:
    run, output = resumed("again")
    assert "note: changed since the last start: name from small to again" in output
    assert run.losses == small.losses
    for measured in ("tokens_per_s", "warm_up_s", "data_wait_s", "host_peak_gib", "wall_s"):
        assert run.summary[measured] == small.summary[measured] is not None, measured


@pytest.fixture
def resumed(small: Run, start: Callable[..., Any]) -> Callable[..., tuple[Run, str]]:
    """A copy of the small run with some checkpoints truncated, resumed to its end; and what was said."""

    def resume(name: str, *truncated: str) -> tuple[Run, str]:
        run = Run(Path(shutil.copytree(small.path, small.path.parent / name)))
        for checkpoint in truncated:
            truncate(run, checkpoint)
        process = start(*SMALL, "--name", name, "--resume", env={"WANDB_MODE": "disabled"})
        output, _ = process.communicate(timeout=400)
        assert process.returncode == 0, output
        return run, output

    return resume
