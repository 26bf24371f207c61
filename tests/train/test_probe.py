"""The probe of a run holds cases of patients."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import psutil
import pytest
import torch
import transformers
from torch import Tensor

from distmed.model.builtin import make_tiny_llama, tiny_llama_config
from distmed.recipe_file import check
from distmed.rundir import RunDir
from distmed.stream.batch import Item, MicroBatch, collate
from distmed.train.finish import chosen
from distmed.train.logbook import Logbook
from distmed.train.probe import GENERATED_CASES, take, to_bytes
from distmed.train.publish import publish
from tests.checkpoint import make


def test_the_probe_is_for_its_owner_alone(tmp_path: Path) -> None:
    run = RunDir(tmp_path)
    book: Any = SimpleNamespace(run=run)
    for content in (b"first", b"better"):
        Logbook.keep_probe(book, content)
    assert run.probe.read_bytes() == b"better"
    assert run.probe.stat().st_mode & 0o777 == 0o600
    assert run.probe.parent.stat().st_mode & 0o777 == 0o700


def test_a_generator_is_asked_for_the_targets_of_the_probed_cases_alone() -> None:
    """Logits over a vocabulary, of all targets, would not fit."""
    lengths, start = (6, 5, 7), 3
    items = [Item(np.arange(n, dtype=np.int32), start, -1, 0.0, f"case-{n}", n) for n in lengths]
    batch = collate([items[:2], items[2:]], seq_len=16, pad_id=0, targets=True)
    asked: list[MicroBatch] = []

    def answer(narrowed: MicroBatch) -> Tensor:
        """The flat place of each target as its logits."""
        asked.append(narrowed)
        assert narrowed.target_index_T is not None
        return narrowed.target_index_T[:, None].expand(-1, 3)

    probe = take(batch, answer)
    (narrowed,) = asked
    assert narrowed.target_ids_T is not None
    assert narrowed.target_ids_T.tolist() == [3, 4, 5, 3, 4], "of the first two cases"
    assert len(probe["input_ids"]) == GENERATED_CASES
    for number, (first, length) in enumerate(zip((0, 6), lengths[:2], strict=True)):
        ids, logits, at = (probe[key][number] for key in ("input_ids", "logits", "positions"))
        assert ids.tolist() == list(range(length))
        assert at.tolist() == list(range(start - 1, length - 1))
        assert (logits[:, 0] - first).tolist() == at.tolist()


BEST = {"step": 4, "value": 1.0}


def published(folder: Path, *, trust_remote_code: bool = False, best: dict[str, Any] | None = BEST) -> str | None:
    """What `publish` tells of a run whose probe holds the logits of a case of 8 tokens at two of them."""
    base, run = folder / "base", RunDir(folder / "run")
    if not base.exists():
        make_tiny_llama(base, ["fever and cough"], vocab_size=300)
    torch.manual_seed(0)
    config = json.loads((base / "config.json").read_text())
    trained = transformers.LlamaForCausalLM(tiny_llama_config(config["vocab_size"])).eval()
    ids, positions = torch.arange(8) + 3, torch.tensor([2, 5])
    probe = {"task": "generate", "step": 4, "dtype": "float32", "input_ids": [ids], "positions": [positions]}
    run.probe.parent.mkdir(parents=True)
    with torch.no_grad():
        run.probe.write_bytes(to_bytes({**probe, "logits": [trained(input_ids=ids[None]).logits[0, positions]]}))
    model = {
        "folder": str(base),
        "dtype": "float32",
        "config": {**config, "architectures": ["LlamaForCausalLM"]},
        "lora": None,
        "lora_scale": None,
    }
    weights = {f"hf.{name}": parameter.detach() for name, parameter in trained.named_parameters()}
    checkpoint = make.write(run.checkpoints, 4, trained=weights, state={"model": model})
    recipe = {
        "name": "run",
        "task": "generate",
        "model": {"path": str(base), "trust_remote_code": trust_remote_code},
        "data": {"train": [{"source": "-"}]},
    }
    job: Any = SimpleNamespace(run=run, recipe=check(recipe), labels=[], cases=lambda: {"train": [1], "eval": [1]})
    return publish(job, checkpoint, best, {"eval/loss": 1.0})


def test_the_exported_model_gives_logits_at_the_targets_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Logits over a vocabulary, of all tokens of a case, would not fit where nothing was trained."""
    rows: list[int] = []
    own = transformers.AutoModelForCausalLM.from_pretrained

    def watched(*arguments: Any, **options: Any) -> Any:
        model: Any = own(*arguments, **options)
        model.lm_head.register_forward_hook(lambda layer, inputs, logits: rows.append(logits.shape[1]))
        return model

    monkeypatch.setattr(transformers.AutoModelForCausalLM, "from_pretrained", watched)
    told = published(tmp_path)
    assert told is not None and told.startswith("exported model reloaded by transformers: logits within ")
    assert rows == [2]


def test_where_memory_is_short_the_export_is_not_compared_and_that_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def load(*_: Any, **__: Any) -> None:
        raise AssertionError("the model was loaded")

    monkeypatch.setattr(transformers.AutoModelForCausalLM, "from_pretrained", load)
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(available=2**20))
    told = published(tmp_path)
    assert told is not None and told.startswith("the exported model was not compared with the trained one: ")
    assert (tmp_path / "run" / "model" / "README.md").is_file()


def test_an_export_of_a_model_with_code_of_its_own_is_compared(tmp_path: Path) -> None:
    base = tmp_path / "base"
    make_tiny_llama(base, ["fever and cough"], vocab_size=300)
    (base / "configuration_own.py").write_text(
        "from transformers import LlamaConfig\n\n\nclass Config(LlamaConfig):\n    model_type = 'own_llama'\n"
    )
    (base / "modeling_own.py").write_text(
        "from transformers import LlamaForCausalLM\n\nfrom .configuration_own import Config\n\n\n"
        "class Model(LlamaForCausalLM):\n    config_class = Config\n"
    )
    config = json.loads((base / "config.json").read_text())
    code = {"AutoConfig": "configuration_own.Config", "AutoModelForCausalLM": "modeling_own.Model"}
    (base / "config.json").write_text(json.dumps({**config, "model_type": "own_llama", "auto_map": code}))
    told = published(tmp_path, trust_remote_code=True)
    assert told is not None and told.startswith("exported model reloaded by transformers: logits within ")


def test_the_newest_is_published_as_such_where_the_best_is_gone(tmp_path: Path) -> None:
    """Its logits are not those of the probe, and no evaluation chose it."""
    assert published(tmp_path, best=None) is None
    run = RunDir(tmp_path / "run")
    assert "weights are those of step 4. At the last evaluation before it" in (run.model / "README.md").read_text()
    notes: list[str] = []
    job: Any = SimpleNamespace(run=run, checkpoints=str(run.checkpoints), recipe=None)
    progress: Any = SimpleNamespace(note=notes.append)
    assert chosen(job, BEST, progress)[1] == BEST
    assert not notes
    folder, best = chosen(job, {"step": 2, "value": 2.0}, progress)
    assert best is None and Path(folder).name.startswith("step-00000004-")
    assert notes == ["the checkpoint of the best evaluation, step 2, is gone: exporting the newest"]
