"""Each file in ds_configs/ trains, and resumes on the losses of the straight run; offloaded state is where it belongs."""

from __future__ import annotations

import importlib.util
import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from distmed import shipped
from distmed.model.builtin import make_tiny_llama, tiny_llama_config
from distmed.train.abilities import has_libaio
from tests.ranks import run_ranks
from tests.train.ds_worker import NVME, QLORA

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]
WORKER = Path(__file__).with_name("ds_worker.py")
OFFLOADED = ["zero3_offload"] + ([NVME] if has_libaio() else [])
PLAIN = ["zero1", "zero2", "zero3", "zero3_hpz"]
PACKED = [QLORA] if importlib.util.find_spec("bitsandbytes") else []


def run(folder: Path, world_size: int, names: list[str]) -> dict[str, list[dict[str, Any]]]:
    run_ranks(WORKER, folder, world_size, logs=folder, last=lambda rank: names, limit_s=800)
    return {
        name: [json.loads((folder / f"{name}-{rank}.json").read_text()) for rank in range(world_size)] for name in names
    }


def with_model(folder: Path) -> Path:
    from transformers import LlamaForCausalLM

    make_tiny_llama(folder / "model", ["fever and cough"], vocab_size=300)
    # NVMe offload leaves sub-groups of less than a megabyte in memory.
    config = tiny_llama_config(vocab_size=2048)
    config.hidden_size, config.intermediate_size, config.num_hidden_layers = 264, 512, 2
    config.save_pretrained(folder / "model")
    LlamaForCausalLM(config).save_pretrained(folder / "model")
    return folder


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[dict[str, Any]]]:
    """What every worker saw with each file."""
    folder = with_model(tmp_path_factory.mktemp("ds"))
    if not shutil.which("g++"):
        pytest.skip("DeepSpeed compiles CPU Adam and asynchronous I/O on the spot, and there is no g++")
    # Compiled by one process first: two would compile them against each other.
    found = run(folder, 1, OFFLOADED)
    return found | run(folder, 2, PLAIN + PACKED)


def test_every_file_is_here() -> None:
    files = {path.stem for path in shipped.folder("ds_configs").glob("*.json")}
    assert files == {*PLAIN, "zero3_offload", NVME}


@pytest.mark.parametrize("name", [*PLAIN, *OFFLOADED, *PACKED])
def test_it_trains_and_resumes(name: str, seen: dict[str, list[dict[str, Any]]]) -> None:
    for worker in seen[name]:
        assert len(set(worker["losses"])) == 4
        assert worker["resumed"] == pytest.approx(worker["losses"][2:], rel=1e-6)
        assert worker["losses"] == seen[name][0]["losses"]


@pytest.mark.parametrize("name", [name for name in PLAIN if name != "zero3"])
def test_all_of_them_take_the_same_steps(name: str, seen: dict[str, list[dict[str, Any]]]) -> None:
    assert seen[name][0]["losses"] == pytest.approx(seen["zero3"][0]["losses"], rel=1e-4)


def test_copies_of_pretrained_weights_in_hosts_of_two_are_those_weights(tmp_path: Path) -> None:
    """Two hosts of two workers: the copy of a worker is another part of the weights than the one that it owns."""
    found = run(with_model(tmp_path), 4, ["base", "base_hpz", "lora", "lora_hpz"])
    for name in ("base", "lora"):
        assert found[f"{name}_hpz"][0]["losses"] == pytest.approx(found[name][0]["losses"], rel=1e-4)
        assert found[f"{name}_hpz"][0]["resumed"] == pytest.approx(found[name][0]["losses"][2:], rel=1e-4)


@pytest.mark.skipif(NVME not in OFFLOADED, reason="libaio-dev is not installed")
def test_nvme_on_two_ranks_trains_resumes_and_gives_the_checkpoint_of_copies(
    tmp_path: Path, seen: dict[str, list[dict[str, Any]]]
) -> None:
    """After `seen`, which has compiled what it needs."""
    workers = run(with_model(tmp_path), 2, [NVME])[NVME]
    for worker in workers:
        assert worker["losses"] == workers[0]["losses"]
        assert worker["resumed"] == worker["losses"][2:]
        assert worker["same_file"] and worker["swapped_bytes"] >= 12 * 2048 * 264


@pytest.mark.skipif(NVME not in OFFLOADED, reason="libaio-dev is not installed")
def test_optimizer_state_lies_on_nvme(seen: dict[str, list[dict[str, Any]]]) -> None:
    (worker,) = seen[NVME]
    assert worker["swapped_bytes"] >= 12 * 2048 * 264
    assert worker["losses"] == pytest.approx(seen["zero3_offload"][0]["losses"], rel=1e-5)


@pytest.mark.skipif(NVME not in OFFLOADED, reason="libaio-dev is not installed")
def test_a_checkpoint_of_state_on_nvme_holds_no_copy_of_it(seen: dict[str, list[dict[str, Any]]]) -> None:
    (worker,) = seen[NVME]
    assert len(worker["blocks_read"]) == len(set(worker["blocks_read"])) > 3
    assert worker["held_bytes"] < worker["swapped_bytes"] / 10
    assert worker["same_file"]
