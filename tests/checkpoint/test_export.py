from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from distmed.checkpoint.export import export
from distmed.cli import main
from distmed.errors import UserError
from distmed.model.weight_files import weight_files

from . import make


@pytest.fixture
def base(tmp_path: Path) -> Path:
    folder = tmp_path / "base"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps({"model_type": "toy", "torch_dtype": "float16"}))
    (folder / "tokenizer.json").write_text("{}")
    (folder / "README.md").write_text("the card of the base")
    return folder


def _exported(folder: Path) -> dict[str, Tensor]:
    return {name: t for file in folder.glob("*.safetensors") for name, t in load_file(file).items()}


@pytest.mark.parametrize("world_size", [1, 3, 16])
def test_the_exported_weights_are_the_masters(tmp_path: Path, base: Path, world_size: int) -> None:
    buffers = {"hf.seen": torch.arange(4), "hf.mean": torch.randn(3)}
    checkpoint = make.write(tmp_path, 10, world_size=world_size, buffers=buffers)
    export(checkpoint, tmp_path / "out", base, config={"architectures": ["Toy"]})
    expected = {name.removeprefix("hf."): t for name, t in (make.weights(10) | buffers).items()}
    found = _exported(tmp_path / "out")
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], expected[name]) for name in expected)
    config = json.loads((tmp_path / "out" / "config.json").read_text())
    assert config == {"model_type": "toy", "architectures": ["Toy"], "dtype": "float32"}
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "config.json",
        "model.safetensors",
        "tokenizer.json",
    ]


def test_bf16_casts_floats_alone(tmp_path: Path, base: Path) -> None:
    checkpoint = make.write(tmp_path, 10, buffers={"hf.seen": torch.arange(4)})
    export(checkpoint, tmp_path / "out", base, dtype="bf16")
    found = _exported(tmp_path / "out")
    assert torch.equal(found["layer.weight"], make.weights(10)["hf.layer.weight"].to(torch.bfloat16))
    assert found["seen"].dtype == torch.int64
    assert json.loads((tmp_path / "out" / "config.json").read_text())["dtype"] == "bfloat16"


def test_shards_are_no_larger_than_asked_and_indexed(tmp_path: Path, base: Path) -> None:
    checkpoint = make.write(tmp_path, 10)
    export(checkpoint, tmp_path / "out", base, max_shard_bytes=160)
    index = json.loads((tmp_path / "out" / "model.safetensors.index.json").read_text())
    total = sum(t.numel() * 4 for t in make.weights().values())
    assert index["metadata"]["total_size"] == total
    assert sorted(set(index["weight_map"].values())) == [f"model-0000{n}-of-00003.safetensors" for n in (1, 2, 3)]
    for name, file in index["weight_map"].items():
        assert torch.equal(load_file(tmp_path / "out" / file)[name], make.weights(10)[f"hf.{name}"])


def test_a_tied_output_layer_is_stored_once(tmp_path: Path, base: Path) -> None:
    trained = {**make.weights(), "hf.lm_head.weight": make.weights()["hf.embed_tokens.weight"]}
    checkpoint = make.write(tmp_path, 10, trained=trained)
    export(checkpoint, tmp_path / "out", base, config={"tie_word_embeddings": True})
    assert "lm_head.weight" not in _exported(tmp_path / "out")
    export(checkpoint, tmp_path / "untied", base)
    assert "lm_head.weight" in _exported(tmp_path / "untied")


FROZEN = {"hf.encoder.frozen.weight": torch.randn(6, 2), "hf.encoder.other": torch.randn(3)}


def test_frozen_weights_come_from_the_base_and_are_checked(tmp_path: Path, base: Path) -> None:
    """The base lacks the prefix that the trained model's class puts before its backbone."""
    inside = {name.removeprefix("hf.encoder."): t for name, t in FROZEN.items()}
    save_file(inside, base / "model.safetensors")
    checkpoint = make.write(tmp_path, 10, frozen=FROZEN)
    export(checkpoint, tmp_path / "out", base)
    found = _exported(tmp_path / "out")
    assert all(torch.equal(found[name.removeprefix("hf.")], t) for name, t in FROZEN.items())
    save_file({**inside, "other": torch.zeros(3)}, base / "model.safetensors")
    with pytest.raises(UserError, match=r"encoder\.other in .* is not the weight"):
        export(checkpoint, tmp_path / "second", base)
    (base / "model.safetensors").unlink()
    with pytest.raises(UserError, match="neither in the checkpoint nor in"):
        export(checkpoint, tmp_path / "second", base)
    assert [path.name for path in tmp_path.iterdir() if "second" in path.name] == []


def test_of_a_base_in_one_file_and_in_shards_the_one_is_taken_that_a_run_loads(tmp_path: Path, base: Path) -> None:
    inside = {name.removeprefix("hf.encoder."): t for name, t in FROZEN.items()}
    save_file(inside, base / "model.safetensors")
    shard = "model-00001-of-00001.safetensors"
    save_file({name: t + 1 for name, t in inside.items()}, base / shard)
    index = {"weight_map": dict.fromkeys(inside, shard)}
    (base / "model.safetensors.index.json").write_text(json.dumps(index))
    assert weight_files(base) == [base / "model.safetensors"]
    export(make.write(tmp_path, 10, frozen=FROZEN), tmp_path / "out", base)
    found = _exported(tmp_path / "out")
    assert all(torch.equal(found[name.removeprefix("hf.")], t) for name, t in FROZEN.items())


def test_an_export_is_of_whole_weights_whatever_those_of_the_base_were(tmp_path: Path, base: Path) -> None:
    """A run holds weights in fp8 as bf16, and a config.json that calls them quantized is no longer right."""
    stored = {name.removeprefix("hf.encoder."): t.to(torch.float8_e4m3fn) for name, t in FROZEN.items()}
    save_file(stored, base / "model.safetensors")
    method = {"quantization_config": {"quant_method": "fp8"}}
    (base / "config.json").write_text(json.dumps({"model_type": "toy", **method}))
    held = {name: t.to(torch.float8_e4m3fn).to(torch.bfloat16) for name, t in FROZEN.items()}
    checkpoint = make.write(tmp_path, 10, frozen=held)
    export(checkpoint, tmp_path / "out", base, dtype="bf16", config=method)
    found = _exported(tmp_path / "out")
    assert all(torch.equal(found[name.removeprefix("hf.")], t) for name, t in held.items())
    config = json.loads((tmp_path / "out" / "config.json").read_text())
    assert config == {"model_type": "toy", "dtype": "bfloat16"}


def test_stored_frozen_weights_need_no_base(tmp_path: Path, base: Path) -> None:
    checkpoint = make.write(tmp_path, 10, frozen=FROZEN, store_frozen=True)
    export(checkpoint, tmp_path / "out", base)
    assert torch.equal(_exported(tmp_path / "out")["encoder.other"], FROZEN["hf.encoder.other"])


def test_adapters_are_merged(tmp_path: Path, base: Path) -> None:
    peft = "hf.base_model.model."
    A, B = torch.randn(2, 7), torch.randn(5, 2)
    frozen = {
        f"{peft}layer.base_layer.weight": torch.randn(5, 7),
        f"{peft}layer.base_layer.bias": torch.randn(5),
        f"{peft}score.original_module.weight": torch.zeros(3, 5),
    }
    trained = {
        f"{peft}layer.lora_A.default.weight": A,
        f"{peft}layer.lora_B.default.weight": B,
        f"{peft}score.modules_to_save.default.weight": torch.randn(3, 5),
    }
    weight, bias, _ = frozen.values()
    save_file({"layer.weight": weight, "layer.bias": bias}, base / "model.safetensors")
    checkpoint = make.write(tmp_path, 10, world_size=3, trained=trained, frozen=frozen)
    export(checkpoint, tmp_path / "out", base, lora_scale=0.5)
    found = _exported(tmp_path / "out")
    assert found.keys() == {"layer.weight", "layer.bias", "score.weight"}
    torch.testing.assert_close(found["layer.weight"], weight + 0.5 * (B @ A))
    assert torch.equal(found["score.weight"], trained[f"{peft}score.modules_to_save.default.weight"])
    with pytest.raises(ValueError, match="lora_scale"):
        export(checkpoint, tmp_path / "second", base)


def test_a_damaged_checkpoint_is_not_exported(tmp_path: Path, base: Path) -> None:
    checkpoint = Path(make.write(tmp_path, 10))
    make.flip_byte(checkpoint / "rank-00001-of-00002.safetensors")
    with pytest.raises(UserError, match="no whole checkpoint"):
        export(checkpoint, tmp_path / "out", base)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("fault", [KeyboardInterrupt(), OSError(28, "No space left on device")])
def test_an_export_cut_short_leaves_nothing(
    tmp_path: Path, base: Path, monkeypatch: pytest.MonkeyPatch, fault: BaseException
) -> None:
    checkpoint = make.write(tmp_path, 10)

    def fail(*_: Any) -> None:
        raise fault

    monkeypatch.setattr("distmed.checkpoint.export._carry", fail)
    with pytest.raises((KeyboardInterrupt, UserError)):
        export(checkpoint, tmp_path / "models" / "out", base)
    assert list((tmp_path / "models").iterdir()) == []


@pytest.mark.slow
def test_an_export_that_is_killed_leaves_nothing_that_looks_whole(tmp_path: Path, base: Path) -> None:
    checkpoint = make.write(tmp_path, 10)
    out = tmp_path / "models" / "out"
    code = f"""
import os, signal
from pathlib import Path
from distmed.checkpoint.export import export
from distmed.cli import main
export({str(checkpoint)!r}, Path({str(out)!r}), Path({str(base)!r}), add=lambda _: os.kill(os.getpid(), signal.SIGKILL))
"""
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    assert subprocess.run([sys.executable, "-c", code], env=environment).returncode == -signal.SIGKILL
    assert not out.exists()
    (left,) = out.parent.iterdir()
    assert left.name.startswith(".out.")
    assert not (left / "config.json").exists()
    export(checkpoint, out, base)
    assert [path.name for path in out.parent.iterdir()] == ["out"]


def test_an_export_without_room_is_refused_before_it_begins(
    tmp_path: Path, base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoint = make.write(tmp_path, 10)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=100))
    with pytest.raises(UserError, match=r"no space left for .*out: 0\.0 GB are needed") as caught:
        export(checkpoint, tmp_path / "models" / "out", base)
    assert "--out" in caught.value.hint
    assert list((tmp_path / "models").iterdir()) == []


@pytest.mark.parametrize(
    ("missing", "what"),
    [
        ("rank-00002-of-00002.json", "1 of 2 markers missing"),
        ("rank-00002-of-00002.safetensors", "rank-00002-of-00002.safetensors has 0 of"),
        ("rank-0000", "no marker"),
    ],
)
def test_an_incomplete_checkpoint_is_told_at_the_door(
    missing: str, what: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    checkpoint = Path(make.write(tmp_path, 10))
    for path in checkpoint.glob(f"{missing}*"):
        path.unlink()
    with pytest.raises(SystemExit) as ended:
        main(["export", str(checkpoint), "--out", str(tmp_path / "out")])
    assert ended.value.code == 2
    error, fix = capsys.readouterr().err.strip().splitlines()
    assert what in error
    assert "older checkpoint" in fix
    assert not (tmp_path / "out").exists()


def test_a_former_export_is_replaced_and_anything_else_refused(tmp_path: Path, base: Path) -> None:
    checkpoint, newer = make.write(tmp_path, 10), make.write(tmp_path, 20)
    export(checkpoint, tmp_path / "out", base)
    export(newer, tmp_path / "out", base)
    assert torch.equal(_exported(tmp_path / "out")["one"], make.weights(20)["hf.one"])
    with pytest.raises(UserError, match="is the base model itself"):
        export(checkpoint, base, base)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("precious")
    with pytest.raises(UserError, match="no former export"):
        export(checkpoint, tmp_path / "mine", base)
    assert (tmp_path / "mine" / "notes.txt").exists()


def test_transformers_reads_an_exported_llama(tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=37,
        hidden_size=12,
        intermediate_size=20,
        num_hidden_layers=2,
        num_attention_heads=3,
        num_key_value_heads=1,
        tie_word_embeddings=True,
    )
    model = LlamaForCausalLM(config).eval()
    config.save_pretrained(tmp_path / "base")
    checkpoint = make.write(
        tmp_path, 10, world_size=3, trained={f"hf.{name}": p.detach() for name, p in model.named_parameters()}
    )
    export(checkpoint, tmp_path / "out", tmp_path / "base", max_shard_bytes=4000)
    again, info = AutoModelForCausalLM.from_pretrained(tmp_path / "out", output_loading_info=True)
    assert not info["missing_keys"]
    assert not info["unexpected_keys"]
    tokens_BL = torch.randint(0, 37, (2, 9))
    with torch.no_grad():
        assert torch.equal(again.eval()(tokens_BL).logits, model(tokens_BL).logits)
