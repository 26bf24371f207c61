from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch
from safetensors import safe_open

from distmed.checkpoint.marker import CorruptCheckpointError
from distmed.checkpoint.storage import Storage
from distmed.checkpoint.tensors import Entry, TensorFile, write_tensors

TENSORS = {
    "flat": torch.randn(17),
    "matrix": torch.randn(3, 5).to(torch.bfloat16),
    "scalar": torch.tensor(7),
    "empty": torch.empty(0),
    "mask": torch.tensor([True, False, True]),
}


def _write(path: Path) -> tuple[int, str]:
    with Storage.at(path).writing() as file:
        return write_tensors(
            file, [Entry(k, t.dtype, t.shape) for k, t in TENSORS.items()], iter(TENSORS.values()), {"format": "pt"}
        )


def test_the_safetensors_library_reads_what_is_written(tmp_path: Path) -> None:
    size, digest = _write(tmp_path / "file.safetensors")
    assert (tmp_path / "file.safetensors").stat().st_size == size
    assert Storage.at(tmp_path / "file.safetensors").hash() == digest
    with safe_open(tmp_path / "file.safetensors", "pt") as file:
        assert file.metadata() == {"format": "pt"}
        assert set(file.keys()) == set(TENSORS)
        for key, tensor in TENSORS.items():
            assert torch.equal(file.get_tensor(key), tensor)


def test_any_range_of_a_tensor_can_be_read(tmp_path: Path) -> None:
    _write(tmp_path / "file.safetensors")
    Storage.at("memory://file.safetensors").filesystem.pipe(
        "/file.safetensors", (tmp_path / "file.safetensors").read_bytes()
    )
    for place in (tmp_path / "file.safetensors", "memory://file.safetensors"):
        file = TensorFile(Storage.at(place))
        for start, stop in ((0, 17), (3, 4), (5, 5), (16, 17)):
            out = torch.empty(stop - start)
            file.read_into("flat", start, out)
            assert torch.equal(out, TENSORS["flat"][start:stop])
        assert torch.equal(file.read("matrix"), TENSORS["matrix"])
        assert torch.equal(file.read("scalar"), TENSORS["scalar"])
        file.close()


def test_a_file_without_its_end_is_found_out(tmp_path: Path) -> None:
    path = tmp_path / "file.safetensors"
    size, _ = _write(path)
    os.truncate(path, size - 1)
    with pytest.raises(CorruptCheckpointError, match="shorter"):
        TensorFile(Storage.at(path)).read("mask")
    os.truncate(path, 20)
    with pytest.raises(CorruptCheckpointError, match="shorter"):
        TensorFile(Storage.at(path))
    with pytest.raises(CorruptCheckpointError, match="nothing"):
        TensorFile(Storage.at(tmp_path / "nothing.safetensors"))


def test_a_file_takes_its_name_only_when_it_is_whole(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError), Storage.at(tmp_path / "file").writing() as file:
        file.write(b"half")
        raise RuntimeError
    assert not (tmp_path / "file").exists()


def test_tensors_that_were_not_announced_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="not what was announced"), Storage.at(tmp_path / "file").writing() as file:
        write_tensors(file, [Entry("a", torch.float32, [3])], [torch.zeros(4)])
