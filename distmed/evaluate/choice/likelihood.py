"""Log-likelihoods of answers under a causal language model.

Units of `Request`s flow in, sums of log-probabilities in nats flow out, equal to those of each request read alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from distmed.evaluate.choice.tokens import Request
from distmed.evaluate.choice.trie import Trie, plant
from distmed.model.attention import as_bias
from distmed.model.diagnoser import Diagnoser

# B: rows, L: padded length, U: positions read, T: answer tokens, D: hidden size, V: vocabulary.
LOGITS_AT_ONCE = 1 << 26
"""Numbers in the largest block of logits: 256 MiB."""


class Likelihoods:
    """Scores requests by the model of `diagnoser`. `budget`: padded tokens of one forward pass."""

    def __init__(self, diagnoser: Diagnoser, device: torch.device, budget: int, pad_id: int) -> None:
        self.reader = _Reader(diagnoser.hf)
        self.device = device
        self.budget = budget
        self.pad_id = pad_id

    @torch.inference_mode()
    def __call__(self, units: Sequence[Sequence[Request]]) -> list[list[float]]:
        """The log-likelihood of every answer. The requests of a unit share their beginning: those of one question."""
        tries = plant(
            units,
            hidden_size=self.reader.network.config.get_text_config().hidden_size,
            budget=self.budget,
            pad_id=self.pad_id,
            branching=self.reader.family is not None,
        )
        # Nothing is fetched from the device before all passes are under way.
        parts = [(trie.request_T, self.reader.log_likelihoods(trie, self.device)) for trie in tries]
        total_R = np.zeros(sum(map(len, units)))
        for request_T, log_p_T in parts:
            np.add.at(total_R, request_T.numpy(), log_p_T.double().cpu().numpy())
        scores = iter(total_R.tolist())
        return [[next(scores) for _ in unit] for unit in units]


class _Reader(Diagnoser):
    """The same model, reading tries."""

    def log_likelihoods(self, trie: Trie, device: torch.device) -> Tensor:
        """log p of every answer token [T]."""
        states_UD = self._read(trie.to(device))
        rows = max(1, LOGITS_AT_ONCE // self.network.config.get_text_config().vocab_size)
        borders = torch.searchsorted(trie.place_T, torch.arange(0, len(states_UD) + rows, rows)).tolist()
        parts = []
        for block, states_SD in enumerate(states_UD.split(rows)):
            targets = slice(borders[block], borders[block + 1])
            place_S = trie.place_T[targets].to(device, non_blocking=True) - block * rows
            target_S = trie.target_ids_T[targets].to(device, non_blocking=True)
            logits_SV = (states_SD if self.family is None else self._vocabulary_logits(states_SD)).float()
            parts.append(logits_SV[place_S, target_S] - logits_SV.logsumexp(-1)[place_S])
        return torch.cat(parts)

    def _read(self, trie: Trie) -> Tensor:
        """States [U, D] where a next token is asked for; logits [U, V] of an architecture that was not tested for tries."""
        network = self.network
        if self.family is None:
            # A row is one path here, so the subtree of its first token is all of it.
            column_L = torch.arange(trie.end_BL.shape[1], device=trie.end_BL.device)
            valid_BL = (column_L < trie.end_BL[:, :1]).long()
            logits_BLV: Tensor = self.hf(input_ids=trie.input_ids_BL, attention_mask=valid_BL).logits
            return logits_BLV.flatten(0, 1).index_select(0, trie.read_U)
        options: dict[str, Any] = {"use_cache": False}
        if trie.branches:
            # A row of one path needs no mask: padding lies behind, and the kernel without a mask is faster.
            options["position_ids"] = trie.position_ids_BL
            window = getattr(network.config, "sliding_window", None)
            options["attention_mask"] = (
                {"full_attention": self._mask(trie, None), "sliding_attention": self._mask(trie, window)}
                if self.family.masks_by_layer
                else self._mask(trie, window)
            )
        backbone = getattr(network, network.base_model_prefix)
        states_BLD: Tensor = backbone(input_ids=trie.input_ids_BL, **options).last_hidden_state
        return states_BLD.flatten(0, 1).index_select(0, trie.read_U)

    def _mask(self, trie: Trie, window: int | None) -> Tensor:
        """Column k is seen from column q of its own subtree, k itself included."""
        column_L = torch.arange(trie.end_BL.shape[1], device=trie.end_BL.device)
        allowed_BLL = (column_L[:, None] >= column_L) & (column_L[:, None] < trie.end_BL[:, None, :])
        if window is not None:
            allowed_BLL &= trie.position_ids_BL[:, :, None] - trie.position_ids_BL[:, None, :] < window
        allowed = allowed_BLL[:, None]
        sdpa = self.network.config._attn_implementation == "sdpa"
        return allowed if sdpa else as_bias(allowed, self.network.dtype)
