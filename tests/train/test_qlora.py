"""Adapters over a base in 4 bits, through the worker loop: it trains, and comes out merged."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path

import pytest

from distmed.checkpoint.folder import newest_complete
from distmed.checkpoint.marker import read_markers
from distmed.checkpoint.storage import Storage
from distmed.rundir import RunDir
from distmed.train.probe import compare
from tests.train.conftest import Run
from tests.train.door import SMALL

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        importlib.util.find_spec("bitsandbytes") is None,
        reason="bitsandbytes is not installed: pip install 'distmed[quant]'",
    ),
]


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    from distmed.model.builtin import make_tiny_llama

    folder = tmp_path_factory.mktemp("base")
    make_tiny_llama(folder, ["fever and cough since yesterday", "a rash on both arms"], vocab_size=300)
    torch.manual_seed(1)
    AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(folder)).save_pretrained(folder)
    lora = ["model.lora.rank=4", "model.quantize=nf4", "deepspeed=zero2", "optimizer.lr=5e-3", "train.precision=fp32"]
    return [*SMALL, f"model.path={folder}", "model.init=pretrained", "data.seq_len=512", "checkpoint.keep=4", *lora]


@pytest.fixture(scope="module")
def straight(train: Callable[..., Run], settings: list[str]) -> Run:
    return train("qlora", *settings, "--num-workers", "2", env={"WANDB_MODE": "disabled"})


def test_it_trains_and_comes_out_merged(straight: Run) -> None:
    assert list(straight.losses) == list(range(1, 11))
    assert straight.losses[10] < straight.losses[1]
    difference = compare(RunDir(straight.path), straight.summary["best"]["step"])
    assert difference is not None and difference < 1e-3


def test_the_base_is_named_by_hash_and_not_stored(straight: Run) -> None:
    newest, _ = newest_complete(straight.path / "checkpoints")
    assert newest is not None
    markers = read_markers(Storage.at(newest), 2)
    packed = [name for name in markers[0].frozen_hashes if name.endswith((".codes", ".scales", ".nested"))]
    assert len(packed) == 3 * 4 * 7
    assert not any(markers[0].parameters[name].stored for name in packed)
    trained = sum(path.stat().st_size for path in Path(newest).glob("*.safetensors"))
    assert trained < 3 * 4 * 100_000
