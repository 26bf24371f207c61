"""What a user got wrong is told in two lines, with status 2 and nothing left behind, before any worker starts."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file
from transformers import Gemma2Config

from distmed.model.builtin import make_tiny_llama
from distmed.refusals import refusal
from distmed.train import preparation
from tests.train.door import NAME, Door, refusal_in


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A model folder with config and tokenizer, and without weights."""
    make_tiny_llama(tmp_path / "model", ["fever and cough for two weeks"] * 9, vocab_size=300)
    return tmp_path / "model"


# ------------------------------------------------------------------ the recipe


@pytest.mark.parametrize(
    ("override", "message", "hint"),
    [
        ("optimizer.lrr=1", "unknown recipe key: optimizer.lrr", "did you mean `lr`?"),
        ("trian.epochs=1", "unknown recipe key: trian", "did you mean `train`?"),
        ("data.train.0.sourse=x", "unknown recipe key: data.train.0.sourse", "did you mean `source`?"),
        ("train.epochs=many", "train.epochs: input should be a valid number", "mend the value"),
        ("data.packing=7.5", "data.packing: input should be a valid boolean", "mend the value"),
        ("train.global_batch=0", "train.global_batch: input should be greater than 0", "mend the value"),
        ("data.train.3.limit=1", "`3` is no index of a list of 1", "use 0 to 0"),
        ("name=../elsewhere", "name: string should match pattern", "mend the value"),
        ("checkpoint.best=diag/f1", "checkpoint.best: no evaluation gives diag/f1", "diag/macro_f1"),
        ("tracking.wandb=sometimes", "tracking.wandb: input should be 'auto', 'online', 'offline'", "mend the value"),
        ("deepspeed=zero7", "no such configuration: zero7", "zero3"),
        ("checkpoint.storage_path=nobody://here", "cannot write to nobody://here", "mend it"),
    ],
)
def test_a_wrong_recipe(early: Door, override: str, message: str, hint: str) -> None:
    refusal = early.refuse(override)
    assert message in refusal.message
    assert hint in refusal.hint


@pytest.mark.parametrize(
    "override",
    ["train.loss=focal", "train.loss=logit_adjusted", "data.class_weights=balanced", "optimizer.head_lr=0.01"],
)
def test_what_only_a_head_over_the_labels_has_a_use_for(early: Door, override: str) -> None:
    refusal = early.refuse("task=generate", override)
    assert refusal.message.startswith(f"{override} is for a head over the labels, and a run that generates")
    assert f"leave {override.partition('=')[0]} out" in refusal.hint


def test_more_workers_than_sequences_in_a_batch(early: Door) -> None:
    refusal = early.refuse("train.global_batch=4", "--num-workers", "5")
    assert "5 workers share train.global_batch=4" in refusal.message
    assert "raise one or lower the other" in refusal.hint


def test_a_best_metric_without_an_evaluation(early: Door) -> None:
    for name in ("diag/macro_f1", "diag/top1/sex=female"):
        refusal = early.refuse("data.eval=[]", f"checkpoint.best={name}")
        assert refusal.message == f"checkpoint.best={name} is of an evaluation, and data.eval is empty"
        assert refusal.hint == "add data.eval, or set checkpoint.best=eval/loss"


@pytest.mark.parametrize("mode", ["of-line", "on"])
def test_a_misspelt_wandb_mode(early: Door, monkeypatch: pytest.MonkeyPatch, mode: str) -> None:
    monkeypatch.setenv("WANDB_MODE", mode)
    refusal = early.refuse()
    assert f"WANDB_MODE={mode}" in refusal.message
    assert "online, offline or disabled" in refusal.hint


@pytest.mark.parametrize(
    ("content", "override", "both"),
    [
        ({"train_batch_size": 64}, "train.global_batch=8", ["train_batch_size=64", "train.global_batch=8"]),
        ({"gradient_clipping": 0.5}, "optimizer.max_grad_norm=1", ["gradient_clipping=0.5", "max_grad_norm=1.0"]),
        ({"optimizer": {"params": {"lr": 0.1}}}, "optimizer.lr=0.2", ["params.lr=0.1", "optimizer.lr=0.2"]),
        ({"bf16": {"enabled": True}}, "train.precision=fp32", ["bf16.enabled=True", "train.precision=fp32"]),
    ],
)
def test_a_deepspeed_file_that_contradicts_the_recipe(
    early: Door, content: dict[str, Any], override: str, both: list[str]
) -> None:
    (early.folder / "mine.json").write_text(json.dumps(content))
    refusal = early.refuse("deepspeed=mine.json", override)
    assert all(value in refusal.message for value in both)
    assert "make the two equal" in refusal.hint


def test_a_deepspeed_file_that_is_none(early: Door) -> None:
    (early.folder / "mine.json").write_text("{bf16: yes}")
    assert "mine.json is no JSON" in early.refuse("deepspeed=mine.json").message
    for content, section in (
        ('{"bf16": true}', "bf16"),
        ('{"zero_optimization": null}', "zero_optimization"),
        ('{"zero_optimization": {"offload_optimizer": null}}', "zero_optimization.offload_optimizer"),
        ('{"scheduler": {"params": [1]}}', "scheduler.params"),
    ):
        (early.folder / "mine.json").write_text(content)
        assert f"{section} is no section" in early.refuse("deepspeed=mine.json").message


def test_a_storage_path_that_is_a_file(early: Door) -> None:
    (early.folder / "taken").write_text("")
    refusal = early.refuse("checkpoint.storage_path=taken/deep")
    # The folder as the workers see it, who stand elsewhere.
    assert f"cannot write to {early.folder / 'taken' / 'deep'}: " in refusal.message


def test_checkpoints_of_an_earlier_run_where_they_are_stored(early: Door) -> None:
    left = early.folder / "shelf" / NAME / "step-00000004-world-1-attempt-0"
    left.mkdir(parents=True)
    refusal = early.refuse("checkpoint.storage_path=shelf")
    assert "holds 1 checkpoints of an earlier run" in refusal.message
    assert left.is_dir()


# ------------------------------------------------------------------ the run


def test_a_run_name_that_exists(early: Door) -> None:
    run = early.folder / "runs" / NAME
    run.mkdir(parents=True)
    (run / "recipe.yaml").write_text("name: small\n")
    refusal = early.refuse()
    assert f"run {NAME} exists already" in refusal.message
    assert "--resume" in refusal.hint and "--name" in refusal.hint


def test_a_folder_that_cannot_be_written_to(early: Door) -> None:
    (early.folder / "runs").write_text("")
    assert "cannot write to " in early.refuse().message


def test_a_folder_on_a_read_only_disk(early: Door, monkeypatch: pytest.MonkeyPatch) -> None:
    disk = early.folder / "disk"
    disk.mkdir()
    made = subprocess.run(["mount", "-t", "tmpfs", "-o", "ro", "none", str(disk)], capture_output=True, text=True)
    if made.returncode:
        pytest.skip(f"a disk cannot be mounted here: {made.stderr.strip()}")
    try:
        monkeypatch.setenv("DISTMED_RUNS", str(disk / "runs"))
        refusal = early.refuse()
    finally:
        subprocess.run(["umount", "--lazy", str(disk)], check=True)
    assert refusal.message == f"{disk / 'runs'}: Read-only file system"
    assert "mount it for writing" in refusal.hint


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "OSError: [Errno 30] Read-only file system: '/store/a/b.json'",
            "/store: Read-only file system",
        ),
        ("OSError: [Errno 28] No space left on device", "no space left on the disk of /store"),
        ("RuntimeError: [Errno 111] Connection refused", None),
    ],
)
def test_what_a_file_system_refused_to_another_process(text: str, message: str | None) -> None:
    """As Ray Train passes on what its controller met."""
    refused = refusal(RuntimeError(f"Traceback …\n{text}"), "/store")
    assert (refused and refused.message) == message


def test_resuming_what_was_never_started(early: Door) -> None:
    refusal = early.refuse("--resume")
    assert "no run to resume" in refusal.message
    assert "without --resume" in refusal.hint


def test_an_interrupt_before_the_first_step_leaves_nothing(door: Door, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(preparation, "check_inputs", interrupted)
    assert door.status() == 130
    assert door.files() == {}


# ------------------------------------------------------------------ the model


def test_a_model_that_is_not_there(early: Door) -> None:
    assert "nowhere/llama is neither a folder nor a model" in early.refuse("model.path=nowhere/llama").message


def test_a_model_folder_without_a_tokenizer(early: Door, model: Path) -> None:
    for file in model.glob("*token*"):
        file.unlink()
    refusal = early.refuse(f"model.path={model}")
    assert "no tokenizer" in refusal.message
    assert "save_pretrained" in refusal.hint


def test_a_model_folder_without_weights(early: Door, model: Path) -> None:
    refusal = early.refuse(f"model.path={model}", "model.init=pretrained")
    assert "no weights" in refusal.message
    assert "model.init=random" in refusal.hint


@pytest.mark.parametrize("inside", [False, True])
def test_a_model_folder_of_quantized_weights(early: Door, model: Path, inside: bool) -> None:
    """`inside`: its config.json says so of the part that reads text."""
    save_file({"weight": np.zeros(3, dtype=np.uint8)}, model / "model.safetensors")
    config = json.loads((model / "config.json").read_text())
    method = {"quantization_config": {"quant_method": "bitsandbytes", "load_in_4bit": True}}
    whole = {"model_type": "gemma3", "text_config": {"model_type": "gemma3_text", "num_hidden_layers": 1, **method}}
    (model / "config.json").write_text(json.dumps(whole if inside else {**config, **method}))
    refusal = early.refuse(f"model.path={model}", "model.init=pretrained", "task=generate", "data.packing=false")
    assert "its weights are quantized already (bitsandbytes)" in refusal.message
    assert "bf16 or fp32" in refusal.hint
    assert "model.quantize=nf4" in refusal.hint


def test_workers_that_would_share_attention_that_cannot_be_shared(early: Door, model: Path) -> None:
    Gemma2Config(num_hidden_layers=1, num_attention_heads=4, num_key_value_heads=2, vocab_size=300).save_pretrained(
        model
    )
    shared = ["task=generate", "data.packing=false", "cluster.num_workers=2", "cluster.sequence_parallel=2"]
    refusal = early.refuse(f"model.path={model}", "model.init=random", *shared)
    assert refusal.message.startswith(
        "cluster.sequence_parallel: the attention of gemma2 models can be shared in flash"
    )
    assert "model.attention=flash2, flash3 or flex" in refusal.hint


def test_cases_longer_than_the_model_reads(early: Door, model: Path) -> None:
    refusal = early.refuse(f"model.path={model}", "data.seq_len=2048")
    assert "data.seq_len=2048, but llama reads at most 1024" in refusal.message


# ------------------------------------------------------------------ as a process


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "environment", "message"),
    [
        (["optimizer.lrr=1"], {}, "unknown recipe key: optimizer.lrr"),
        (["recipes/mine.yaml"], {}, "recipe not found: recipes/mine.yaml"),
        (["data.train.0.source=gone.csv"], {}, "not found: gone.csv"),
        (["--num-workers", "7", "train.global_batch=8"], {}, "7 workers want a CPU each, the cluster has 4"),
        ([], {"RAY_ADDRESS": "127.0.0.1:1"}, "no Ray cluster answers at RAY_ADDRESS=127.0.0.1:1"),
    ],
)
def test_a_process_ends_with_two_lines(
    tmp_path: Path, ray_address: str, arguments: list[str], environment: dict[str, str], message: str
) -> None:
    ended = subprocess.run(
        [sys.executable, "-m", "distmed", "train", *arguments],
        cwd=tmp_path,
        env={**os.environ, "RAY_ADDRESS": ray_address, **environment},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert ended.returncode == 2, ended.stdout + ended.stderr
    assert message in refusal_in(ended.stdout, ended.stderr).message
    assert [path for path in tmp_path.rglob("*") if path.name != "runs"] == []
