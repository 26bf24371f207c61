"""An export by hand has a model card too: data, recipe, evidence, intended use."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from transformers import LlamaForCausalLM

from distmed.checkpoint.publish import export_checkpoint
from distmed.cli import main
from distmed.model.builtin import make_tiny_llama, tiny_llama_config
from distmed.recipe_file import check
from tests.checkpoint import make

RECIPE = {
    "name": "carded",
    "task": "generate",
    "model": {"path": "builtin:tiny-llama", "init": "random"},
    "data": {
        "train": [{"source": "medquad.jsonl", "format": "medquad"}],
        "test": [{"source": "sealed.jsonl", "format": "medquad"}],
    },
}


@pytest.fixture
def checkpoint(tmp_path: Path) -> str:
    make_tiny_llama(tmp_path / "base", ["fever and cough"], vocab_size=300)
    config = tiny_llama_config(vocab_size=300)
    network = LlamaForCausalLM(config)
    model = {
        "folder": str(tmp_path / "base"),
        "dtype": "float32",
        "config": {**config.to_dict(), "architectures": ["LlamaForCausalLM"]},
        "lora": None,
        "lora_scale": None,
    }
    return make.write(
        tmp_path / "run" / "checkpoints",
        10,
        trained={f"hf.{name}": parameter.detach() for name, parameter in network.named_parameters()},
        state={"model": model, "run": {"step": 10, "evaluation": {"eval/loss": 1.25}}, "cases": {"train": [14675]}},
    )


@torch.no_grad()
def test_an_export_by_hand_has_a_card(checkpoint: str, tmp_path: Path) -> None:
    (tmp_path / "run" / "recipe.yaml").write_text(check(RECIPE).to_yaml())
    export_checkpoint(checkpoint, tmp_path / "out")
    card = (tmp_path / "out" / "README.md").read_text()
    for words in (
        "## Intended use",
        "not a medical device",
        "| train | `medquad.jsonl` | medquad | 14675 |",
        "| kept for a last test | `sealed.jsonl` |",
        "those of step 10",
        "`eval/loss` | 1.2500",
    ):
        assert words in card
    assert "name: carded" in card


def test_a_card_shows_no_credentials(checkpoint: str, tmp_path: Path) -> None:
    train = [{"source": "https://ada:planted-1@host/a.jsonl?sig=planted-2", "format": "medquad"}]
    store = {"storage_path": "s3://planted-3@shelf/runs"}
    recipe = check({**RECIPE, "data": {"train": train}, "checkpoint": store})
    (tmp_path / "run" / "recipe.yaml").write_text(recipe.to_yaml())
    export_checkpoint(checkpoint, tmp_path / "out")
    card = (tmp_path / "out" / "README.md").read_text()
    assert "`https://host/a.jsonl`" in card and "s3://shelf/runs" in card
    assert "planted" not in card


def test_a_run_whose_checkpoints_lie_elsewhere_is_exported_by_its_folder(
    checkpoint: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """On a disk, and behind a URL; the card comes from the run's recipe."""
    shelf = tmp_path / "shelf" / "carded"
    shelf.parent.mkdir()
    Path(checkpoint).parent.rename(shelf)
    newest = shelf / Path(checkpoint).name
    for number, store in enumerate((str(shelf.parent), f"file://{shelf.parent}")):
        recipe = check({**RECIPE, "checkpoint": {"storage_path": store}})
        (tmp_path / "run" / "recipe.yaml").write_text(recipe.to_yaml())
        out = tmp_path / f"out-{number}"
        with pytest.raises(SystemExit) as ended:
            main(["export", str(tmp_path / "run"), "--out", str(out)])
        assert not ended.value.code, capsys.readouterr()
        assert "## Intended use" in (out / "README.md").read_text()
    with pytest.raises(SystemExit) as ended:
        main(["export", f"file://{newest}", "--out", str(tmp_path / "out-2")])
    assert not ended.value.code
    assert (tmp_path / "out-2" / "model.safetensors").is_file()
    assert "without a model card" in capsys.readouterr().out


def test_an_export_to_where_nobody_may_write(
    checkpoint: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(SystemExit) as ended:
        main(["export", checkpoint, "--out", str(tmp_path / "file" / "out")])
    assert ended.value.code == 2
    error = capsys.readouterr().err
    assert f"error: {tmp_path / 'file'}" in error and "it is a file: name a folder" in error
    with pytest.raises(SystemExit) as ended:
        main(["export", checkpoint, "--out", "/proc/out"])
    assert ended.value.code == 2
    assert "/proc/out: no folder can be made there" in capsys.readouterr().err


def test_a_checkpoint_without_its_run_has_none(checkpoint: str, tmp_path: Path) -> None:
    export_checkpoint(checkpoint, tmp_path / "out")
    assert not (tmp_path / "out" / "README.md").exists()
