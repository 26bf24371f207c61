"""Every fault of a model folder is found before anything starts, and told in one line with one line of help."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from distmed.errors import UserError
from distmed.model.folder import ModelFacts, check_model
from distmed.model.hash import earlier_model_hash, model_hash
from distmed.recipe import Model
from distmed.train.resume import Saved, check_same_model

Make = Callable[..., Any]


def check(path: Path | str, task: Any = "classify", packing: bool = True, **model: Any) -> ModelFacts:
    return check_model(Model(path=str(path), **model), task, packing=packing)


def refused(what: str, how: str, path: Path | str, *args: Any, **options: Any) -> None:
    with pytest.raises(UserError, match=what) as caught:
        check(path, *args, **options)
    assert how in caught.value.hint
    assert "\n" not in caught.value.message + caught.value.hint


def test_a_good_folder_gives_its_facts(saved: Make, minilm: Path) -> None:
    assert check(saved("roberta", "classify")).max_positions == 39
    facts = check(minilm)
    assert (facts.model_type, facts.hidden_size, facts.max_positions) == ("bert", 384, 512)


def test_nothing_there(tmp_path: Path) -> None:
    refused("no such folder", "hub id", tmp_path / "nowhere")
    refused("no built-in model", "builtin:tiny-llama", "builtin:huge-llama")
    refused("no config.json", "folder", tmp_path)


def test_a_hub_id_that_cannot_be_reached(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    refused("neither a folder nor", "go online", "nobody/no-such-model")
    refused("neither a folder nor", "spelling", "no body/*")


def test_a_model_that_asks_for_a_login(monkeypatch: pytest.MonkeyPatch) -> None:
    """Gated: it is there, and not for this account; private, or not there: the hub tells no difference."""
    import httpx
    import huggingface_hub
    from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError

    answer = httpx.Response(403, request=httpx.Request("GET", "https://huggingface.co/meta/llama"))
    for kind, what in (
        (GatedRepoError, "is gated, and this account may not read it"),
        (RepositoryNotFoundError, "neither"),
    ):

        def refuse(*_: Any, kind: Any = kind, **__: Any) -> None:
            raise kind("no", response=answer)

        monkeypatch.setattr(huggingface_hub, "snapshot_download", refuse)
        refused(what, "hf auth login", "meta/llama")


def test_no_tokenizer(saved: Make) -> None:
    folder = saved("llama")
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (folder / name).unlink()
    refused("no tokenizer", "save_pretrained", folder)


def test_a_broken_tokenizer(saved: Make) -> None:
    folder = saved("llama")
    (folder / "tokenizer.json").write_text("{")
    refused("tokenizer cannot be read", "save_pretrained", folder)


def test_no_weights(saved: Make) -> None:
    folder = saved("llama")
    (folder / "model.safetensors").unlink()
    refused("no weights", "model.init=random", folder)
    assert check(folder, init="random").model_type == "llama"


def test_pickled_weights(saved: Make) -> None:
    folder = saved("llama")
    weights = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    torch.save(weights, folder / "pytorch_model.bin")
    refused("pickles", "safetensors", folder)


def test_truncated_weights(saved: Make) -> None:
    folder = saved("llama")
    path = folder / "model.safetensors"
    whole = path.read_bytes()
    path.write_bytes(whole[:-10])
    refused("truncated", "fetch the model again", folder)
    path.write_bytes(whole[:100])
    refused("no safetensors file", "fetch the model again", folder)
    path.write_bytes(b"")
    refused("no safetensors file", "fetch the model again", folder)


def test_a_shard_that_the_index_names_is_truncated_or_missing(saved: Make) -> None:
    folder = saved("llama")
    weights = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    names = sorted(weights)
    parts = {"model-00001-of-00002.safetensors": names[:5], "model-00002-of-00002.safetensors": names[5:]}
    for file, members in parts.items():
        save_file({name: weights[name] for name in members}, folder / file)
    index = {"weight_map": {name: file for file, members in parts.items() for name in members}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    assert check(folder).model_type == "llama"
    second = folder / "model-00002-of-00002.safetensors"
    second.write_bytes(second.read_bytes()[:-10])
    refused("model-00002-of-00002.safetensors is truncated", "fetch the model again", folder)
    second.unlink()
    refused("model-00002-of-00002.safetensors is missing", "fetch the model again", folder)


def test_a_task_the_architecture_has_no_head_for(saved: Make) -> None:
    refused("left to right", "task: classify", saved("roberta", "classify"), "generate")
    refused("no distilbert with a language-model head", "task: classify", saved("distilbert", "classify"), "generate")


def test_remote_code_is_refused_unless_switched_on(saved: Make) -> None:
    folder = saved("llama")
    config = json.loads((folder / "config.json").read_text())
    config |= {"model_type": "unheard-of", "auto_map": {"AutoConfig": "config.Config"}}
    (folder / "config.json").write_text(json.dumps(config))
    refused("could do anything", "trust_remote_code=true", folder)


def test_an_unknown_architecture(saved: Make) -> None:
    folder = saved("llama")
    (folder / "config.json").write_text('{"model_type": "unheard-of"}')
    refused("does not know the architecture 'unheard-of'", "name a model", folder)


def test_packing_is_refused_where_it_was_not_tested(tiny_llama: Path, tmp_path: Path) -> None:
    from transformers import GPT2Config

    folder = tmp_path / "gpt2"
    shutil.copytree(tiny_llama, folder)
    GPT2Config(n_layer=1, n_embd=8, n_head=1, vocab_size=400).save_pretrained(folder)
    refused("packing was not tested with gpt2", "data.packing=false", folder, init="random")
    assert check(folder, init="random", packing=False).model_type == "gpt2"


def test_workers_share_only_what_divides_the_heads_of_every_layer(tiny_llama: Path, tmp_path: Path) -> None:
    from transformers import CONFIG_MAPPING

    folder = shutil.copytree(tiny_llama, tmp_path / "gemma4")
    heads = {"num_attention_heads": 8, "num_key_value_heads": 4, "num_global_key_value_heads": 2}
    config = CONFIG_MAPPING["gemma4_text"](**heads, vocab_size=400, num_hidden_layers=6, attention_k_eq_v=True)
    config.save_pretrained(folder)
    assert check(folder, "generate", init="random", packing=False).heads == 2


def test_an_architecture_that_has_no_word_for_tying_is_taken(saved: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    from transformers import LlamaConfig

    folder = saved("llama")
    own = LlamaConfig.get_text_config

    def without_word(config: Any, *arguments: Any, **options: Any) -> Any:
        text = own(config, *arguments, **options)
        vars(text).pop("tie_word_embeddings", None)
        return text

    monkeypatch.setattr(LlamaConfig, "get_text_config", without_word)
    monkeypatch.delattr(LlamaConfig, "tie_word_embeddings", raising=False)
    assert check(folder, "generate").model_type == "llama"


def test_a_tied_output_layer_that_is_stored_with_other_values_is_refused(saved: Make) -> None:
    folder = saved("llama", tie_word_embeddings=True)
    weights = load_file(folder / "model.safetensors")
    embedding = weights["model.embed_tokens.weight"]
    for head, differs in ((embedding.clone(), False), (embedding + 1, True)):
        save_file({**weights, "lm_head.weight": head}, folder / "model.safetensors", {"format": "pt"})
        if differs:
            refused("ties lm_head.weight to model.embed_tokens.weight", "tie_word_embeddings", folder, "generate")
        else:
            check(folder, "generate")
        # No head over the vocabulary is used here.
        check(folder, "classify")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "tie_word_embeddings": False}))
    check(folder, "generate")


@pytest.mark.parametrize(
    ("model_type", "change"), [("gemma3_text", {"use_bidirectional_attention": True}), ("llama", {"is_causal": False})]
)
def test_a_decoder_that_sees_both_ways_is_refused(model_type: str, change: dict[str, Any], saved: Make) -> None:
    folder = saved(model_type)
    check(folder, "generate")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, **change}))
    for task in ("generate", "classify"):
        refused("see both ways", "encoder", folder, task)


def test_adapters_are_no_model(saved: Make) -> None:
    folder = saved("llama")
    (folder / "adapter_config.json").write_text("{}")
    refused("LoRA adapters", "merge", folder)


def test_the_hash_changes_with_config_tokenizer_and_weights(saved: Make, tmp_path: Path) -> None:
    folder = saved("llama")
    before = model_hash(folder)
    assert model_hash(shutil.copytree(folder, tmp_path / "copy")) == before
    for name in ("config.json", "tokenizer.json", "model.safetensors"):
        path = folder / name
        whole = path.read_bytes()
        path.write_bytes(whole[:-2] + bytes([whole[-2] ^ 1]) + whole[-1:])
        assert model_hash(folder) != before, name
        path.write_bytes(whole)
    assert model_hash(folder) == before


def test_the_hash_changes_with_one_inner_tensor_of_a_large_file(saved: Make) -> None:
    folder = saved("llama")
    weights = {f"layers.{n:02}.q_proj.weight": torch.zeros(64, 256) for n in range(64)}
    save_file(weights, folder / "model.safetensors")
    earlier = earlier_model_hash(folder)
    hashes = {model_hash(folder)}
    for name in weights:
        save_file({**weights, name: torch.ones(64, 256)}, folder / "model.safetensors")
        hashes.add(model_hash(folder))
        if name.startswith("layers.02"):
            assert earlier_model_hash(folder) == earlier, "the tensor lies between the places sampled of the file"
    assert len(hashes) == 1 + len(weights)


def test_a_file_of_weights_that_nobody_reads_may_be_no_safetensors(saved: Make) -> None:
    folder = saved("llama")
    (folder / "model.safetensors").write_bytes(b"none")
    assert check(folder, init="random").hash == model_hash(folder)


def test_a_checkpoint_with_the_hash_of_earlier_days_is_of_the_same_model(saved: Make) -> None:
    folder = saved("llama")
    state = {"model": {"hash": earlier_model_hash(folder), "folder": str(folder)}, "stream": {"tokenizer": "t"}}
    check_same_model(Saved("step-00000001", state), folder, model_hash(folder), "t")
    (folder / "config.json").write_text("{}")
    with pytest.raises(UserError, match="from another model"):
        check_same_model(Saved("step-00000001", state), folder, model_hash(folder), "t")
