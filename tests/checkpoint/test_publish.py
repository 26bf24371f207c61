"""What a folder exported from a checkpoint says beside its weights is what training had, as transformers alone reads it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoTokenizer, LlamaForCausalLM, PreTrainedTokenizerFast

from distmed.checkpoint.publish import ASKED, export_checkpoint, how_asked
from distmed.errors import UserError
from distmed.evaluate.loading import open_model
from distmed.model.builtin import make_tiny_llama, tiny_llama_config
from distmed.model.hash import earlier_model_hash, model_hash
from distmed.model.load import load_tokenizer
from distmed.recipe_file import check
from distmed.stream.encode import closing_token, tokenizer_hash
from tests.checkpoint import make

GENERATOR = {"architectures": ["LlamaForCausalLM"]}


@pytest.fixture
def base(tmp_path: Path) -> Path:
    make_tiny_llama(tmp_path / "base", ["fever and cough"], vocab_size=300)
    return tmp_path / "base"


def checkpoint_of(base: Path, **changes: Any) -> str:
    """Of a generator trained from `base`; `changes` of what it says of its model."""
    config = tiny_llama_config(vocab_size=300)
    model = {
        "folder": str(base),
        "dtype": "float32",
        "config": {**config.to_dict(), **GENERATOR},
        "lora": None,
        "lora_scale": None,
        **changes,
    }
    trained = {f"hf.{name}": parameter.detach() for name, parameter in LlamaForCausalLM(config).named_parameters()}
    return make.write(base.parent / "run" / "checkpoints", 10, trained=trained, state={"model": model})


@pytest.mark.parametrize("says_so", [True, False])
def test_files_of_earlier_days_do_not_override_the_tokenizer_of_training(
    base: Path, tmp_path: Path, says_so: bool
) -> None:
    """`says_so`: in tokenizer_config.json too, or in the earlier file alone."""
    files = str(base / "tokenizer.json")
    tokenizer = PreTrainedTokenizerFast(tokenizer_file=files, bos_token="<|bos|>", eos_token="<|eos|>")
    tokenizer.chat_template = "{{ messages[0].content }}{{ eos_token }}"
    tokenizer.pad_token = "<|eos|>" if says_so else "<|pad|>"
    tokenizer.save_pretrained(base)
    earlier = {"bos_token": "<|bos|>", "eos_token": {"content": "<|eos|>"}, "pad_token": "<|eos|>"}
    (base / "special_tokens_map.json").write_text(json.dumps(earlier))
    (base / "added_tokens.json").write_text(json.dumps({"<|eos|>": 2}))
    export_checkpoint(checkpoint_of(base), tmp_path / "out")
    trained, plain = load_tokenizer(base), AutoTokenizer.from_pretrained(tmp_path / "out")
    assert plain.pad_token == trained.pad_token == "<|pad|>"
    assert tokenizer_hash(plain) == tokenizer_hash(trained)


CHATML = """{% for message in messages %}<|im_start|>{{ message.role }}
{{ message.content }}<|im_end|>
{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant
{% endif %}"""


@pytest.mark.parametrize("base_says", [{}, {"eos_token_id": 2, "temperature": 0.5}, {"eos_token_id": [2, 300]}])
def test_an_exported_generator_ends_where_its_answers_end(
    base: Path, tmp_path: Path, base_says: dict[str, Any]
) -> None:
    tokenizer = AutoTokenizer.from_pretrained(base)
    tokenizer.add_special_tokens({"extra_special_tokens": ["<|im_end|>", "<|im_start|>"]})
    tokenizer.chat_template = CHATML
    tokenizer.save_pretrained(base)
    end = tokenizer.convert_tokens_to_ids("<|im_end|>")
    assert closing_token(tokenizer) == end != tokenizer.eos_token_id
    if base_says:
        (base / "generation_config.json").write_text(json.dumps(base_says))
    config = tiny_llama_config(300, eos_token_id=2, bos_token_id=1, pad_token_id=0)
    export_checkpoint(checkpoint_of(base, config={**config.to_dict(), **GENERATOR}), tmp_path / "out")
    said = json.loads((tmp_path / "out" / "generation_config.json").read_text())
    expected = base_says or {"bos_token_id": 1, "pad_token_id": 0, "eos_token_id": 2}
    ends = expected["eos_token_id"]
    assert said == {**expected, "eos_token_id": [*(ends if isinstance(ends, list) else [ends]), end]}


def test_a_generator_whose_answers_end_like_any_text_keeps_what_its_base_says(base: Path, tmp_path: Path) -> None:
    tokenizer = load_tokenizer(base)
    assert closing_token(tokenizer) == tokenizer.eos_token_id
    config = tiny_llama_config(300, eos_token_id=tokenizer.eos_token_id)
    export_checkpoint(checkpoint_of(base, config={**config.to_dict(), **GENERATOR}), tmp_path / "out")
    assert not (tmp_path / "out" / "generation_config.json").exists()


def test_a_base_that_was_changed_since_the_run_began_is_refused(base: Path, tmp_path: Path) -> None:
    """`hash` is in the checkpoints of all runs; the last ones lack what an earlier version did not write."""
    for saved in ({"hash": model_hash(base)}, {"hash": earlier_model_hash(base)}, {}):
        export_checkpoint(checkpoint_of(base, **saved), tmp_path / "out")
    checkpoint = checkpoint_of(base, hash=model_hash(base))
    (base / "chat_template.jinja").write_text("{{ messages }}")
    with pytest.raises(UserError, match="is no longer what the run began with"):
        export_checkpoint(checkpoint, tmp_path / "out")


def test_a_model_is_asked_as_in_training_wherever_it_lies(base: Path, tmp_path: Path) -> None:
    values = {
        "name": "asked",
        "task": "generate",
        "model": {"path": str(base)},
        "data": {"train": [{"source": "-"}], "seq_len": 77, "excluded_findings": False},
    }
    recipe = check(values)
    of_now = checkpoint_of(base, **{ASKED: how_asked(recipe)})
    elsewhere = tmp_path / "elsewhere" / "my-model"
    export_checkpoint(of_now, elsewhere)
    data = open_model(str(elsewhere), tmp_path / "work").recipe.data
    assert (data.seq_len, data.excluded_findings) == (77, False)
    data = open_model(f"file://{of_now}", tmp_path / "url").recipe.data
    assert (data.seq_len, data.excluded_findings) == (77, False)
    of_before = checkpoint_of(base)
    # A checkpoint of an earlier version knows it by its run, or not at all.
    for known in (False, True):
        if known:
            (tmp_path / "run" / "recipe.yaml").write_text(recipe.to_yaml())
        export_checkpoint(of_before, elsewhere)
        data = open_model(str(elsewhere), tmp_path / "work").recipe.data
        assert (data.seq_len == 77, data.excluded_findings) == (known, not known)
