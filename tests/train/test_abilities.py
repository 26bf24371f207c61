"""What a DeepSpeed file asks of the machine is held against it before anything is started."""

from __future__ import annotations

from pathlib import Path

import pytest

from distmed.errors import UserError
from distmed.train import abilities
from distmed.train.abilities import check_abilities

NVME = {"zero_optimization": {"stage": 3, "offload_optimizer": {"device": "nvme"}}}


def test_nvme_without_libaio_names_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(abilities, "has_libaio", lambda: False)
    with pytest.raises(UserError, match=r"libaio\.h is missing") as error:
        check_abilities(NVME, gpu=False)
    assert "apt install libaio-dev" in error.value.hint
    check_abilities({"zero_optimization": {"offload_optimizer": {"device": "cpu"}}}, gpu=False)


def test_nvme_on_gpus_wants_the_toolkit_or_the_reader_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(abilities, "has_libaio", lambda: True)
    monkeypatch.setattr("torch.utils.cpp_extension.CUDA_HOME", None)
    check_abilities(NVME, gpu=False)
    with pytest.raises(UserError, match="no CUDA toolkit"):
        check_abilities(NVME, gpu=True)
    monkeypatch.setattr(abilities, "has_reader", lambda: True)
    check_abilities(NVME, gpu=True)


def test_libaio_is_looked_for_where_a_compiler_looks(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("CFLAGS", raising=False)
    (tmp_path / "libaio.h").touch()
    monkeypatch.setenv("CPATH", f"/nowhere:{tmp_path}")
    assert abilities.has_libaio()


@pytest.mark.parametrize("key", abilities.QUANTIZED)
def test_quantized_communication_needs_a_gpu(key: str) -> None:
    with pytest.raises(UserError, match=f"{key}, whose kernels need a GPU"):
        check_abilities({"zero_optimization": {key: True}}, gpu=False)
    check_abilities({"zero_optimization": {key: True}}, gpu=True)
