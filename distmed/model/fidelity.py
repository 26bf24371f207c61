"""Models that would be trained as something else than they are: what their files say in two ways, or say and we do not do.

A model folder and its configuration flow in; nothing flows out but a UserError.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from distmed.errors import UserError
from distmed.model.families import FAMILIES

if TYPE_CHECKING:
    from transformers import PreTrainedConfig


def check_reads_one_way(folder: Path, config: PreTrainedConfig) -> None:
    """Raises UserError for a decoder that was made to see both ways: it would be trained, and packed, as one that does not."""
    family = FAMILIES.get(config.model_type)
    text = config.get_text_config()
    both_ways = getattr(text, "use_bidirectional_attention", None) or getattr(text, "is_causal", None) is False
    if family is not None and family.causal and both_ways:
        raise UserError(
            f"{folder}: its config.json has a {config.model_type} model see both ways, and here it would see what is before",
            "choose an encoder (BERT, RoBERTa, ...), or a decoder that reads from left to right",
        )


def check_tied(folder: Path, files: list[Path], network: Any) -> None:
    """Raises UserError where a layer that the configuration ties to another is stored with other values.

    `files`: the folder's safetensors. `network`: the architecture, whose parameters need no data.
    """
    import torch
    from safetensors import safe_open

    file_of: dict[str, Path] = {}
    for path in files:
        with safe_open(path, framework="pt") as file:
            file_of |= dict.fromkeys(file.keys(), path)

    def read(name: str) -> torch.Tensor:
        with safe_open(file_of[name], framework="pt") as file:
            return file.get_tensor(name)

    for tied, to in (network._tied_weights_keys or {}).items():
        if tied in file_of and to in file_of and not torch.equal(read(tied), read(to)):
            raise UserError(
                f"{folder}: its config.json ties {tied} to {to}, and its weights have both, which differ",
                "set tie_word_embeddings to false in its config.json to train both, or take the one that is not meant out",
            )
