"""What comes out of a model folder: the weights, a proper head, the recipe's labels and dropout."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForSequenceClassification, PreTrainedTokenizerFast

from distmed.errors import UserError
from distmed.model.diagnoser import Diagnoser
from distmed.model.load import is_whole_tokenizer, load_model, load_tokenizer
from distmed.recipe import Recipe

LABELS = ["OMIM:1", "OMIM:2", "OMIM:3"]
NAMES = ["gout", "flu", "measles"]
Make = Callable[..., Any]


def load(recipe: Recipe, labels: list[str] = LABELS, **ds_config: Any) -> Diagnoser:
    return load_model(recipe, recipe.model.path, labels, NAMES, ds_config, torch.device("cpu"))


def test_minilm_loads_with_its_weights_and_a_proper_head(minilm: Path, recipe: Make) -> None:
    from safetensors.torch import load_file

    model = load(recipe(minilm))
    stored = load_file(minilm / "model.safetensors")
    network = model.network
    assert torch.equal(network.bert.pooler.dense.weight, stored["pooler.dense.weight"])
    assert model.fresh == {"hf.classifier.weight", "hf.classifier.bias"}
    assert network.classifier.weight.std().item() == pytest.approx(network.config.initializer_range, rel=0.1)
    assert not network.classifier.bias.any()
    assert network.config.id2label == {0: "OMIM:1", 1: "OMIM:2", 2: "OMIM:3"}
    assert network.config.label_names == NAMES


def test_a_pooler_that_the_checkpoint_lacks_is_made(saved: Make, recipe: Make) -> None:
    from transformers import BertForMaskedLM

    folder = saved("bert", "classify")
    BertForMaskedLM.from_pretrained(folder).save_pretrained(folder)
    model = load(recipe(folder))
    assert {name for name in model.fresh if "pooler" in name} == {
        "hf.bert.pooler.dense.weight",
        "hf.bert.pooler.dense.bias",
    }
    assert model.network.bert.pooler.dense.weight.std() > 0.1


def test_a_head_is_kept_for_its_labels_and_made_anew_for_others(saved: Make, recipe: Make, tmp_path: Path) -> None:
    folder = saved("bert", "classify")
    first = load(recipe(folder))
    with torch.no_grad():
        first.network.classifier.weight.fill_(7.0)
    first.network.save_pretrained(folder)
    again = load(recipe(folder))
    assert not again.fresh
    assert (again.network.classifier.weight == 7.0).all()
    for labels in (["OMIM:3", "OMIM:2", "OMIM:1"], ["OMIM:1", "OMIM:2"]):
        other = load(recipe(folder), labels)
        assert "hf.classifier.weight" in other.fresh
        assert other.network.classifier.weight.shape[0] == len(labels)
        assert (other.network.classifier.weight.abs() < 2.0).all()
        assert other.network.classifier.weight.std() > 0.1


def test_fresh_weights_follow_from_the_seed(tiny_llama: Path, recipe: Make) -> None:
    same, again, other = (
        load(recipe(tiny_llama, init="random", train={"seed": seed})).state_dict() for seed in (1, 1, 2)
    )
    assert all(torch.equal(same[name], again[name]) for name in same)
    assert not torch.equal(same["hf.score.weight"], other["hf.score.weight"])


def test_dropout_of_the_recipe_reaches_every_layer(minilm: Path, recipe: Make) -> None:
    for wanted in (0.0, 0.3):
        model = load(recipe(minilm, dropout=wanted))
        found = {module.p for module in model.modules() if isinstance(module, torch.nn.Dropout)}
        attention = {module.dropout.p for module in model.modules() if type(module).__name__ == "BertSelfAttention"}
        assert found | attention == {wanted}


def test_precision_follows_the_deepspeed_configuration(tiny_llama: Path, recipe: Make) -> None:
    r = recipe(tiny_llama, init="random")
    assert load(r, bf16={"enabled": True}).network.dtype == torch.bfloat16
    assert load(r).network.dtype == torch.float32


def test_activation_checkpointing_is_switched_on(tiny_llama: Path, recipe: Make) -> None:
    model = load(recipe(tiny_llama, init="random", train={"activation_checkpointing": True}))
    assert model.network.model.layers[0].gradient_checkpointing


def test_weights_that_do_not_fit_the_config_are_refused(saved: Make, recipe: Make) -> None:
    folder = saved("llama")
    text = (folder / "config.json").read_text()
    (folder / "config.json").write_text(text.replace('"num_hidden_layers": 3', '"num_hidden_layers": 4'))
    with pytest.raises(UserError, match="its weights lack") as caught:
        load(recipe(folder, "generate"), [])
    assert "layers.3" in caught.value.message
    (folder / "config.json").write_text(text.replace('"intermediate_size": ', '"intermediate_size": 1'))
    with pytest.raises(UserError, match="its weights have other sizes") as caught:
        load(recipe(folder, "generate"), [])
    assert "layers.0.mlp" in caught.value.message


def test_plain_transformers_gives_the_same_logits_after_a_save(
    saved: Make, recipe: Make, pack: Make, tmp_path: Path
) -> None:
    model = load(recipe(saved("llama"))).eval()
    case = [5, 17, 23, 2]
    with torch.no_grad():
        ours_CK = model(pack([[[8, 9, 2], case]], labels=[0, 0]))
    model.network.save_pretrained(tmp_path / "out")
    plain = AutoModelForSequenceClassification.from_pretrained(tmp_path / "out").eval()
    padded = torch.tensor([[*case, plain.config.pad_token_id, plain.config.pad_token_id]])
    with torch.no_grad():
        theirs_CK = plain(input_ids=padded, attention_mask=torch.tensor([[1, 1, 1, 1, 0, 0]])).logits
    torch.testing.assert_close(ours_CK[1:], theirs_CK, atol=1e-5, rtol=1e-5)


def test_positions_begin_where_they_did_whatever_pads_the_tokenizer(
    saved: Make, recipe: Make, pack: Make, tmp_path: Path
) -> None:
    folder = saved("roberta", "classify", pad_token_id=3)
    assert load_tokenizer(folder).pad_token_id == 0
    model = load(recipe(folder)).eval()
    case = [5, 17, 23, 2]
    model.network.save_pretrained(tmp_path / "out")
    plain = AutoModelForSequenceClassification.from_pretrained(tmp_path / "out").eval()
    with torch.no_grad():
        ours_CK = model(pack([[[8, 9, 2], case]], labels=[0, 0]))
        theirs_CK = plain(input_ids=torch.tensor([case])).logits
    torch.testing.assert_close(ours_CK[1:], theirs_CK, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("pad_token", [None, "<|eos|>"])
def test_padding_is_never_the_token_that_ends_a_case(tiny_llama: Path, tmp_path: Path, pad_token: str | None) -> None:
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_file=str(tiny_llama / "tokenizer.json"), eos_token="<|eos|>", pad_token=pad_token
    )
    tokenizer.save_pretrained(tmp_path)
    ours = load_tokenizer(tmp_path)
    assert ours.pad_token_id is not None
    assert ours.pad_token_id != ours.eos_token_id
    assert ours.chat_template is not None
    assert len(ours) == len(tokenizer)


def endless(folder: Path, rows: int, *special: str) -> Path:
    """A folder with a tokenizer like that of GPT-2: one token begins and ends a text, and none is for padding."""
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers
    from transformers import GPT2Config

    raw = Tokenizer(models.BPE())
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokens = ["<|end|>", *special]
    raw.train_from_iterator(["fever and cough"], trainers.BpeTrainer(special_tokens=tokens, show_progress=False))
    fast = PreTrainedTokenizerFast(tokenizer_object=raw, bos_token="<|end|>", eos_token="<|end|>")
    fast.save_pretrained(folder)
    GPT2Config(vocab_size=len(fast) + rows).save_pretrained(folder)
    return folder


def test_padding_is_a_special_token_or_a_new_one_and_never_a_word(tmp_path: Path) -> None:
    text = "fever and cough"
    plain = PreTrainedTokenizerFast.from_pretrained(endless(tmp_path / "spare", 1))
    ours = load_tokenizer(tmp_path / "spare")
    assert (ours.pad_token, ours.pad_token_id) == ("<|pad|>", len(plain))
    assert ours(text).input_ids == plain(text).input_ids
    assert load_tokenizer(endless(tmp_path / "special", 0, "<|b|>", "<|a|>")).pad_token == "<|b|>"
    with pytest.raises(UserError, match="no token for padding") as refused:
        load_tokenizer(endless(tmp_path / "full", 0))
    assert "<|pad|>" in refused.value.hint


def test_a_tokenizer_that_lacks_something_does_not_serve_as_it_is(tiny_llama: Path, tmp_path: Path) -> None:
    files = str(tiny_llama / "tokenizer.json")
    for number, lack in enumerate(({"pad_token": None}, {"pad_token": "<|eos|>"}, {"pad_token": "<|pad|>"})):
        folder = tmp_path / str(number)
        tokenizer = PreTrainedTokenizerFast(tokenizer_file=files, eos_token="<|eos|>", **lack)
        if number < 2:
            tokenizer.chat_template = "{{ messages }}"
        tokenizer.save_pretrained(folder)
        assert not is_whole_tokenizer(folder), lack
        load_tokenizer(folder).save_pretrained(folder)
        assert is_whole_tokenizer(folder), lack
