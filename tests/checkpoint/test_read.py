from __future__ import annotations

from pathlib import Path

import pytest
import torch

from distmed.checkpoint.marker import CorruptCheckpointError
from distmed.checkpoint.read import Checkpoint, Wanted

from . import make

NAME = "hf.layer.weight"


@pytest.mark.parametrize("place", ["disk", "object store"])
@pytest.mark.parametrize("world_size", [1, 2, 3, 7])
def test_any_range_is_put_together_from_the_ranks_that_have_it(tmp_path: Path, world_size: int, place: str) -> None:
    root = tmp_path if place == "disk" else "memory://ranges"
    expected = make.weights(10)[NAME].flatten()
    with Checkpoint(make.write(root, 10, world_size=world_size)) as checkpoint:
        for start in range(0, 35, 4):
            for stop in range(start, 36, 5):
                out = torch.full((stop - start,), torch.nan)
                checkpoint.read([Wanted("master", NAME, start, out)])
                assert torch.equal(out, expected[start:stop])


def test_only_files_that_overlap_are_opened(tmp_path: Path) -> None:
    path = Path(make.write(tmp_path, 10, world_size=7))
    for rank in (1, 2, 5, 6, 7):
        (path / f"rank-0000{rank}-of-00007.safetensors").unlink()
    with Checkpoint(path) as checkpoint:
        out = torch.empty(10)
        checkpoint.read([Wanted("master", NAME, 10, out)])
        assert torch.equal(out, make.weights(10)[NAME].flatten()[10:20])


def test_a_range_that_no_rank_wrote_is_no_silent_gap(tmp_path: Path) -> None:
    path = tmp_path / "gap"
    for snapshot in make.snapshots(make.weights(), 3):
        if snapshot.rank == 1:
            snapshot.content["ranges"][NAME] = [12, 20]
        snapshot.write(path)
    with Checkpoint(path) as checkpoint, pytest.raises(CorruptCheckpointError, match=r"no rank wrote .* element 20"):
        checkpoint.read([Wanted("master", NAME, 0, torch.empty(35))])


def test_a_folder_without_a_marker_is_no_checkpoint(tmp_path: Path) -> None:
    with pytest.raises(CorruptCheckpointError, match="no checkpoint in"):
        Checkpoint(tmp_path)
