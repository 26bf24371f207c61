"""Greedy generation after many prompts.

Token ids flow in, the text that the model writes after each prompt flows out.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch

from distmed.evaluate.choice.tokens import Tokens
from distmed.stream.encode import closing_token

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


@torch.inference_mode()
def generate(
    network: Any,
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[Tokens],
    *,
    device: torch.device,
    budget: int,
    max_new_tokens: int,
) -> list[str]:
    """What `network`, a transformers model, writes after each prompt, at most `max_new_tokens` tokens of it: up to where it
    ends a text or, as in chats, an answer.

    `budget`: padded tokens of one batch. Longest prompts go first, so that memory that does not suffice is found out at once.
    """
    from transformers import GenerationConfig

    own, closing = network.generation_config, closing_token(tokenizer)
    ends = tokenizer.eos_token_id if own.eos_token_id is None else own.eos_token_id
    ends = ends if isinstance(ends, list) else [ends]
    config = GenerationConfig(
        do_sample=False,
        max_new_tokens=max_new_tokens,
        pad_token_id=tokenizer.pad_token_id,
        eos_token_id=sorted({token for token in (*ends, closing) if token is not None}) or None,
    )
    texts = [""] * len(prompts)
    order = sorted(range(len(prompts)), key=lambda number: -len(prompts[number]))
    while order:
        length = len(prompts[order[0]])
        rows = max(1, budget // (length + max_new_tokens))
        batch, order = order[:rows], order[rows:]
        ids_BL = torch.full((len(batch), length), tokenizer.pad_token_id)
        valid_BL = torch.zeros_like(ids_BL)
        for row, number in enumerate(batch):
            # Left of the prompt, because generation goes on at the right end.
            ids_BL[row, length - len(prompts[number]) :] = torch.tensor(prompts[number])
            valid_BL[row, length - len(prompts[number]) :] = 1
        written_BN = network.generate(ids_BL.to(device), attention_mask=valid_BL.to(device), generation_config=config)
        decoded = tokenizer.batch_decode(written_BN[:, length:], skip_special_tokens=True)
        for number, text in zip(batch, decoded, strict=True):
            texts[number] = text
    return texts
