"""Real DeepSpeed runs on CPU: 20 steps straight on 2 ranks against 10 steps, a checkpoint, and 10 more on 2, 3 and 1 ranks."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch

from distmed.checkpoint import folder as folders
from distmed.checkpoint.export import export
from distmed.checkpoint.read import Checkpoint, whole

from . import make
from .group import run_group

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1500)]

# Small sub-groups, so that one parameter group is several flat tensors; small parameters stay gathered between steps.
SMALL = {"sub_group_size": 200, "stage3_param_persistence_threshold": 100}
KINDS: dict[str, dict[str, Any]] = {
    "zero3": {"stage": 3, "zero": SMALL},
    "zero2": {"stage": 2},
    "zero1": {"stage": 1},
    "zero0": {"stage": 0},
    "zero3-fused": {"stage": 3, "fused": True},
    "zero3-bf16": {"stage": 3, "bf16": True},
    "zero1-bf16-master": {"stage": 1, "bf16": True, "config": {"data_types": {"grad_accum_dtype": "fp32"}}},
    "zero3-frozen": {"stage": 3, "frozen": True},
    "zero2-frozen-stored": {"stage": 2, "frozen": True, "store_frozen": True, "seed": 3},
}
WORLDS = (2, 3, 1)


@dataclass
class Runs:
    root: Path
    straight: dict[str, dict[str, Any]]
    resumed: dict[tuple[str, int], dict[str, Any]]
    hopped: dict[str, dict[str, Any]]
    fallen_back: dict[str, Any]
    refused: dict[str, Any]
    late: dict[str, Any]
    hiccup: dict[str, Any]

    def folder(self, kind: str, step: int = 10, world_size: int = 2) -> Path:
        return self.root / kind / folders.name(step, world_size, 0)


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Runs:
    """Three groups of processes in all: each runs every kind in turn."""
    root = tmp_path_factory.mktemp("runs")
    first = {kind: {**job, "root": str(root / kind), "save": [10]} for kind, job in KINDS.items()}

    def resume(kind: str, step: int = 10, world_size: int = 2, **more: Any) -> dict[str, Any]:
        folder = root / kind / folders.name(step, world_size, 0)
        return {
            **KINDS[kind],
            "root": str(root / kind),
            "load": str(folder),
            **more,
            "seed": 11 if "stored" in kind else 7,
        }

    on_two = run_group(
        root,
        2,
        [
            *first.values(),
            *(resume(kind) for kind in KINDS),
            {**first["zero3"], "root": str(root / "late"), "save_late": True},
            {**resume("zero3"), "load": str(root / "zero3"), "newest": True, "hiccup": True},
        ],
    )
    (root / "zero3-other" / "x").mkdir(parents=True)
    shutil.copytree(root / "zero3", root / "damaged")
    damaged = shutil.copytree(root / "zero3" / folders.name(10, 2, 0), root / "damaged" / folders.name(12, 2, 0))
    make.flip_byte(damaged / "rank-00002-of-00002.safetensors")
    on_three = run_group(root, 3, [resume(kind, save=[15]) for kind in KINDS])
    on_one = run_group(
        root,
        1,
        [
            *(resume(kind) for kind in KINDS),
            *(resume(kind, step=15, world_size=3) for kind in KINDS),
            {**KINDS["zero3"], "load": str(root / "damaged"), "newest": True},
            {**resume("zero3-frozen"), "seed": 8},
        ],
    )
    count = len(KINDS)
    return Runs(
        root=root,
        straight=dict(zip(KINDS, on_two[:count], strict=True)),
        resumed={
            (kind, world_size): result
            for world_size, results in zip(WORLDS, (on_two[count : 2 * count], on_three, on_one[:count]), strict=True)
            for kind, result in zip(KINDS, results, strict=True)
        },
        hopped=dict(zip(KINDS, on_one[count : 2 * count], strict=True)),
        fallen_back=on_one[2 * count],
        refused=on_one[2 * count + 1],
        late=on_two[-2],
        hiccup=on_two[-1],
    )


@pytest.mark.parametrize("kind", KINDS)
def test_a_resume_on_as_many_ranks_repeats_every_digit(runs: Runs, kind: str) -> None:
    straight, resumed = runs.straight[kind]["losses"], runs.resumed[kind, 2]["losses"]
    assert list(resumed) == list(range(10, 20))
    assert resumed == {step: straight[step] for step in resumed}


@pytest.mark.parametrize("world_size", [3, 1])
@pytest.mark.parametrize("kind", KINDS)
def test_a_resume_on_other_ranks_follows_the_straight_run(runs: Runs, kind: str, world_size: int) -> None:
    straight, resumed = runs.straight[kind]["losses"], runs.resumed[kind, world_size]["losses"]
    assert list(resumed) == list(range(10, 20))
    tolerance = 2e-2 if "bf16" in kind else 1e-6
    assert resumed == pytest.approx({step: straight[step] for step in resumed}, abs=tolerance)


@pytest.mark.parametrize("kind", KINDS)
def test_a_second_hop_follows_too(runs: Runs, kind: str) -> None:
    straight, hopped = runs.straight[kind]["losses"], runs.hopped[kind]["losses"]
    assert list(hopped) == list(range(15, 20))
    assert hopped == pytest.approx({step: straight[step] for step in hopped}, abs=2e-2 if "bf16" in kind else 1e-6)


@pytest.mark.parametrize("kind", [kind for kind, job in KINDS.items() if job["stage"] == 3])
def test_masters_and_moments_are_the_same_to_the_bit(runs: Runs, kind: str) -> None:
    """As DeepSpeed's own functions gather them, before the save and after each load."""
    saved = runs.straight[kind]["gathered-10"]
    for world_size in WORLDS:
        loaded = runs.resumed[kind, world_size]["loaded"]
        assert loaded.keys() == saved.keys()
        assert all(torch.equal(loaded[key], saved[key]) for key in saved)
    saved, loaded = runs.resumed[kind, 3]["gathered-15"], runs.hopped[kind]["loaded"]
    assert all(torch.equal(loaded[key], saved[key]) for key in saved)


@pytest.mark.parametrize("kind", KINDS)
def test_every_state_counts_its_own_steps(runs: Runs, kind: str) -> None:
    for result in (runs.straight[kind], *(runs.resumed[kind, world_size] for world_size in WORLDS), runs.hopped[kind]):
        assert set(result["steps"]) == {20.0}
        assert result["engine_steps"] == 20
        assert result["seen"] == 20


def test_small_sub_groups_make_several_blocks(runs: Runs) -> None:
    assert len(runs.straight["zero3"]["steps"]) > 2


@pytest.mark.parametrize("kind", KINDS)
def test_a_rank_writes_its_share(runs: Runs, kind: str) -> None:
    """The model, three values a parameter, over the ranks; frozen weights only where they were asked for."""
    sizes = [path.stat().st_size for path in runs.folder(kind, 15, 3).glob("*.safetensors")]
    values = sum(p.numel for p in Checkpoint(runs.folder(kind)).parameters.values() if p.group is not None)
    assert len(sizes) == 3
    assert max(sizes) < values * 12 / 3 + 6000
    keys = Checkpoint(runs.folder(kind))._file(0).header
    assert any(key.startswith("frozen/") for key in keys) == (kind == "zero2-frozen-stored")


def test_random_states_come_back_on_as_many_ranks_only(runs: Runs) -> None:
    expected = runs.straight["zero3"]["draws_after_save"]
    assert runs.resumed["zero3", 2]["draws"] == expected
    assert runs.resumed["zero3", 3]["draws"] != expected


def test_the_callers_state_comes_back(runs: Runs) -> None:
    assert runs.resumed["zero3", 3]["state"] == {"step": 10}


def test_a_damaged_checkpoint_is_passed_over_with_a_note(runs: Runs) -> None:
    found = runs.fallen_back
    assert found["folder"].endswith(folders.name(10, 2, 0))
    assert len(found["notes"]) == 1
    assert "rank-00002-of-00002.safetensors is damaged" in found["notes"][0]
    assert found["losses"] == runs.resumed["zero3", 1]["losses"]


def test_a_load_that_one_rank_could_not_end_is_made_again(runs: Runs) -> None:
    found = runs.hiccup
    assert found["folder"].endswith(folders.name(10, 2, 0)) and found["notes"] == []
    assert found["losses"] == runs.resumed["zero3", 2]["losses"]
    assert all(torch.equal(found["loaded"][key], value) for key, value in runs.straight["zero3"]["gathered-10"].items())


def test_another_base_under_frozen_weights_is_refused(runs: Runs) -> None:
    assert runs.refused["error"].startswith("frozen weights are not those of checkpoint step-00000010")
    assert "hf.up." in runs.refused["error"]


def test_a_snapshot_written_late_holds_the_step_it_was_taken_at(runs: Runs) -> None:
    for rank in (1, 2):
        file = f"rank-0000{rank}-of-00002.safetensors"
        assert (runs.folder("late") / file).read_bytes() == (runs.folder("zero3") / file).read_bytes()


@pytest.mark.parametrize("kind", ["zero3", "zero3-bf16"])
def test_the_export_is_the_gathered_master(runs: Runs, kind: str, tmp_path: Path) -> None:
    from safetensors.torch import load_file

    (tmp_path / "config.json").write_text(json.dumps({}))
    export(runs.folder(kind), tmp_path / "out", tmp_path)
    exported = load_file(tmp_path / "out" / "model.safetensors")
    gathered = runs.straight[kind]["gathered-10"]
    names = {key.removeprefix("master/hf.") for key in gathered if key.startswith("master/")}
    assert exported.keys() == names | {"seen"}
    assert all(torch.equal(exported[name], gathered[f"master/hf.{name}"]) for name in names)


def test_stages_hold_the_same_numbers(runs: Runs) -> None:
    """In fp32 the stage changes where a value lies, hardly its digits."""
    with Checkpoint(runs.folder("zero3")) as one, Checkpoint(runs.folder("zero1")) as other:
        for name in one.parameters:
            for kind in ("master", "exp_avg", "exp_avg_sq"):
                torch.testing.assert_close(whole(one, kind, name), whole(other, kind, name), atol=1e-5, rtol=1e-4)
