"""The built-in model is made on the spot, the same every time."""

from __future__ import annotations

from pathlib import Path

from distmed.model.builtin import make_tiny_llama
from distmed.model.load import load_tokenizer
from tests.model.conftest import TEXTS


def test_the_same_texts_give_the_same_files(tiny_llama: Path, tmp_path: Path) -> None:
    make_tiny_llama(tmp_path, iter(TEXTS), vocab_size=400)
    files = sorted(path.name for path in tmp_path.iterdir())
    assert files == sorted(path.name for path in tiny_llama.iterdir())
    for name in files:
        assert (tmp_path / name).read_bytes() == (tiny_llama / name).read_bytes(), name


def test_any_text_survives_the_tokenizer(tiny_llama: Path) -> None:
    tokenizer = load_tokenizer(tiny_llama)
    text = "Ménière's disease,  38.5 °C\n未知"
    ids = tokenizer(text)["input_ids"]
    assert tokenizer.decode(ids, skip_special_tokens=True) == text
    assert (ids[0], ids[-1]) == (tokenizer.bos_token_id, tokenizer.eos_token_id)


def test_a_chat_ends_with_the_answer_and_the_end_token(tiny_llama: Path) -> None:
    tokenizer = load_tokenizer(tiny_llama)
    chat = [{"role": "user", "content": "Fever?"}, {"role": "assistant", "content": "flu"}]
    assert tokenizer.apply_chat_template(chat, tokenize=False).rstrip().endswith("flu" + tokenizer.eos_token)
