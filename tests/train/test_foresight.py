"""`distmed train` asks the plan first: a run that has no hope of fitting is refused before a worker starts."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from distmed.errors import UserError
from distmed.model.builtin import tiny_llama_config
from distmed.plan.devices import GIB, cpu_host
from distmed.recipe_file import check
from distmed.train import foresight

RECIPE = {
    "name": "a",
    "task": "generate",
    "model": {"path": "x", "init": "random"},
    "data": {"train": [{"source": "x"}]},
}


def job(folder: Any, rows: int) -> Any:
    tiny_llama_config(vocab_size=3072).save_pretrained(folder)
    recipe = check({**RECIPE, "train": {"micro_batch": rows, "global_batch": rows}})
    return SimpleNamespace(recipe=recipe, model_folder=folder, bf16=False, total_steps=10)


@pytest.fixture
def memory(monkeypatch: pytest.MonkeyPatch) -> Any:
    """`memory(gib)`: a cluster of one CPU host with so much."""

    def there(gib: float) -> None:
        monkeypatch.setattr(foresight, "_cluster", lambda workers, bf16: [cpu_host(workers, 2, int(gib * GIB))])

    return there


def test_a_run_that_fits_passes_in_silence(tmp_path: Any, memory: Any) -> None:
    memory(16)
    assert foresight.refuse_hopeless(job(tmp_path, 2)) is None


def test_a_hopeless_run_is_refused_with_a_way_out(tmp_path: Any, memory: Any) -> None:
    memory(2)
    with pytest.raises(UserError) as error:
        foresight.refuse_hopeless(job(tmp_path, 512))
    assert "does not fit: a worker wants about" in error.value.message
    assert "train.micro_batch=" in error.value.hint or "activation_checkpointing" in error.value.hint
    assert "--force" in error.value.hint


def test_a_tight_run_is_told(tmp_path: Any, memory: Any) -> None:
    memory(16)
    from distmed.plan.plan import make_plan

    a_job = job(tmp_path, 64)
    machine = cpu_host(1, 2, 16 * GIB)
    config = tiny_llama_config(vocab_size=3072)
    ds_config = foresight._ds_config(a_job.recipe, config, machine, bf16=False)
    need = make_plan(a_job.recipe, config, ds_config, machine).memory.device_total
    memory(need / GIB * 1.02)
    told = foresight.refuse_hopeless(a_job)
    assert told is not None
    assert told.startswith("memory is tight")


def test_unknown_devices_and_architectures_are_let_pass(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(foresight, "_cluster", lambda workers, bf16: [])
    assert foresight.refuse_hopeless(job(tmp_path, 512)) is None


@pytest.mark.parametrize(("name", "refused"), [("A100", False), ("A100-80G", False), ("A100-40G", True)])
def test_of_devices_sold_with_two_memories_the_larger_one_refuses(
    name: str, refused: bool, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ray names every A100 alike; some have 40 GiB and some 80, and this run wants about 56."""
    monkeypatch.setattr("ray.nodes", lambda: [{"Alive": True, "Resources": {"GPU": 1, f"accelerator_type:{name}": 1}}])
    monkeypatch.setattr(foresight.session, "on_gpu", lambda: True)
    fitting = job(tmp_path, 2600)
    if refused:
        with pytest.raises(UserError, match=r"wants about 5\d\.\d GiB of 40\.0"):
            foresight.refuse_hopeless(fitting)
        return
    told = foresight.refuse_hopeless(fitting)
    assert told is None if name == "A100-80G" else told is not None and "GiB of 40.0 or 80.0" in told
