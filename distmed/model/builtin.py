"""The built-in model: a small Llama architecture and a byte-level BPE tokenizer trained on the spot.

Texts of the training data flow in; a folder with config.json and the tokenizer comes out, so a first run downloads
nothing. It holds no weights: a recipe that names it trains fresh ones (`model.init: random`).
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from transformers import LlamaConfig

TINY_LLAMA = "builtin:tiny-llama"
BOS, EOS, PAD = "<|bos|>", "<|eos|>", "<|pad|>"


def make_tiny_llama(folder: Path, texts: Iterable[str], vocab_size: int = 3072, max_positions: int = 1024) -> None:
    """Write config.json and tokenizer files into `folder`. The same texts give the same files.

    About 3 million parameters: 4 layers, hidden size 192, input and output embedding tied.
    """
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast

    from distmed.cases.prompts import DEFAULT_CHAT_TEMPLATE

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer.train_from_iterator(
        texts,
        trainers.BpeTrainer(
            vocab_size=vocab_size, special_tokens=[PAD, BOS, EOS], initial_alphabet=alphabet, show_progress=False
        ),
    )
    bos_id, eos_id, pad_id = (tokenizer.token_to_id(token) for token in (BOS, EOS, PAD))
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{BOS} $A {EOS}", special_tokens=[(BOS, bos_id), (EOS, eos_id)]
    )
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token=BOS, eos_token=EOS, pad_token=PAD, model_max_length=max_positions
    )
    fast.chat_template = DEFAULT_CHAT_TEMPLATE
    folder.mkdir(parents=True, exist_ok=True)
    fast.save_pretrained(folder)
    config = tiny_llama_config(len(fast), max_positions, bos_token_id=bos_id, eos_token_id=eos_id, pad_token_id=pad_id)
    config.save_pretrained(folder)


def tiny_llama_config(vocab_size: int, max_positions: int = 1024, **tokens: Any) -> LlamaConfig:
    """The architecture alone: 4 layers of width 192, input and output embedding tied."""
    from transformers import LlamaConfig

    return LlamaConfig(
        vocab_size=vocab_size,
        hidden_size=192,
        intermediate_size=512,
        num_hidden_layers=4,
        num_attention_heads=6,
        num_key_value_heads=6,
        max_position_embeddings=max_positions,
        tie_word_embeddings=True,
        architectures=["LlamaForCausalLM"],
        **tokens,
    )
