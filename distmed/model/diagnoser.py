"""Diagnoser: a Hugging Face model that reads packed micro-batches as plain transformers would read each case alone.

Micro-batches flow in; logits flow out, per case (classify) or at the target tokens only (generate). Submodules are
always called as modules, because the hooks that gather their parameters under ZeRO-3 hang there.
"""

from __future__ import annotations

from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from distmed.model.attention import as_bias, block_mask, padding_mask
from distmed.model.candidates import Tree
from distmed.model.families import FAMILIES, Family
from distmed.model.head import Targets, with_loss
from distmed.model.kernels import FLEX, computing_by, cumulative_lengths, flex_mask, in_one_row
from distmed.model.recompute import offloaded

if TYPE_CHECKING:
    from distmed.model.sequence import Sharing
    from distmed.stream.batch import MicroBatch

# B: rows, L: padded length, N: B x L, D: hidden size, C: cases, K: labels, T: target tokens, V: vocabulary.


class Diagnoser(nn.Module):
    """Wraps `hf`: an AutoModelForSequenceClassification (classify) or AutoModelForCausalLM (generate), or LoRA on it.

    `fresh` names the parameters of the classification head that no checkpoint gave values to. `sharing`: with the workers
    that train on parts of the same sequences, if there are any; `offloads`: what waits for the backward pass, to the host.
    """

    def __init__(self, hf: Any, fresh: frozenset[str] = frozenset()) -> None:
        super().__init__()
        self.hf = hf
        self.fresh = fresh
        self.sharing: Sharing | None = None
        self.offloads = False
        self.family: Family | None = FAMILIES.get(self.network.config.model_type)
        self.gives_losses = self.family is not None and with_loss(self.network)

    @property
    def network(self) -> Any:
        """The transformers model itself, inside the LoRA wrapper if there is one."""
        hf: Any = self.hf
        return hf.get_base_model() if hasattr(hf, "get_base_model") else hf

    def forward(self, batch: MicroBatch | Tree, *, label_smoothing: float | None = None) -> Tensor:
        """Logits [C, K] of each case (classify), or [T, V] at the target positions (generate).

        With `label_smoothing` (0 for none) generate gives the loss [T] of each target instead, in the memory of a few logits.
        """
        if self.family is None:
            return self._unpacked(batch) if label_smoothing is None else self._losses(batch, label_smoothing)
        if isinstance(batch, Tree):
            # Flash attention has no mask for answers that share a prompt.
            masked = "sdpa" if self._score_cap is None else "eager"
            with computing_by(self.network, masked if self._flash else self._kernel):
                states_ND = self._states(batch, self.family).flatten(0, 1)
            return self._at_targets(
                states_ND.index_select(0, batch.target_index_T), batch.target_ids_T, label_smoothing
            )
        if self._flash and not _one_case_a_row(batch):
            batch = in_one_row(batch)
        index_T, target_ids_T = batch.target_index_T, batch.target_ids_T
        if self.sharing is not None and self.training:
            batch = self.sharing.evened(batch)
            index_T, target_ids_T = self.sharing.targets(batch)
        states_ND = self._states(batch, self.family).flatten(0, 1)
        if index_T is None:
            index_C = batch.case_first_C if self.family.pools == "first" else batch.case_last_C
            return self.family.head(self.network, states_ND.index_select(0, index_C).unsqueeze(1))
        return self._at_targets(states_ND.index_select(0, index_T), target_ids_T, label_smoothing)

    def _at_targets(self, states_TD: Tensor, target_ids_T: Tensor | None, label_smoothing: float | None) -> Tensor:
        """The logits [T, V] of these states, or the losses [T]."""
        if label_smoothing is None or target_ids_T is None:
            return self._vocabulary_logits(states_TD)
        if not self.gives_losses:
            return _cross_entropy(self._vocabulary_logits(states_TD), target_ids_T, label_smoothing)
        return self.network.get_output_embeddings()(states_TD, Targets(target_ids_T, label_smoothing, self._cap))

    def _states(self, batch: MicroBatch | Tree, family: Family) -> Tensor:
        """Token states [B, L, D] of the backbone, each case seeing itself only; where tokens are shared, of this worker's."""
        network = self.network
        backbone = getattr(network, network.base_model_prefix)
        options: dict[str, Any] = {"use_cache": False} if family.causal else {}
        one_case_a_row = _one_case_a_row(batch)
        sharing = self.sharing if self.training else None
        input_ids_BL = batch.input_ids_BL
        if self._flash:
            if not one_case_a_row:
                options |= {"position_ids": batch.position_ids_BL, **cumulative_lengths(batch.segment_ids_BL)}
        elif not (family.causal and one_case_a_row) or (sharing is not None and self._window is not None):
            # Causal rows of one case need no mask: padding lies behind, and the kernel without a mask is faster. Where tokens
            # are shared transformers would make that of a window from a part of them.
            offset = backbone.embeddings.padding_idx + 1 if family.position_offset else 0
            options["position_ids"] = batch.position_ids_BL + offset
            options["attention_mask"] = self._masks(batch, family, one_case_a_row)
        if sharing is not None:
            if one_case_a_row:
                columns_L = torch.arange(input_ids_BL.shape[1], device=input_ids_BL.device)
                options["position_ids"] = columns_L.expand_as(input_ids_BL)
            options["position_ids"] = sharing.tokens(options["position_ids"])
            input_ids_BL = sharing.tokens(input_ids_BL)
        with offloaded() if self.offloads and torch.is_grad_enabled() else nullcontext():
            return backbone(input_ids=input_ids_BL, **options).last_hidden_state

    def _masks(self, batch: MicroBatch | Tree, family: Family, one_case_a_row: bool) -> Any:
        """One mask or, where layers differ, a mapping from their type to theirs."""

        def mask(window: int | None) -> Any:
            if one_case_a_row and not family.causal:
                allowed = padding_mask(batch.segment_ids_BL)
            else:
                segments = (batch.segment_ids_BL, batch.position_ids_BL)
                branches = batch.branch_ids_BL if isinstance(batch, Tree) else None
                options: dict[str, Any] = {"causal": family.causal, "window": window, "branch_ids_BL": branches}
                if self._kernel == FLEX:
                    return flex_mask(*segments, **options)
                allowed = block_mask(*segments, **options)
            return allowed if self._kernel == "sdpa" else as_bias(allowed, self.network.dtype)

        if family.masks_by_layer:
            return {"full_attention": mask(None), "sliding_attention": mask(self._window)}
        return mask(self._window)

    @property
    def _kernel(self) -> str:
        """How transformers calls the one that computes attention now."""
        return str(self.network.config._attn_implementation)

    @property
    def _flash(self) -> bool:
        return self._kernel.startswith("flash")

    @property
    def _window(self) -> int | None:
        window: int | None = getattr(self.network.config, "sliding_window", None)
        return window

    def _vocabulary_logits(self, states_TD: Tensor) -> Tensor:
        logits_TV = self.network.get_output_embeddings()(states_TD)
        return logits_TV if self._cap is None else torch.tanh(logits_TV / self._cap) * self._cap

    @property
    def _cap(self) -> float | None:
        cap: float | None = getattr(self.network.config, "final_logit_softcapping", None)
        return cap

    @property
    def _score_cap(self) -> float | None:
        cap: float | None = getattr(self.network.config, "attn_logit_softcapping", None)
        return cap

    def _losses(self, batch: MicroBatch | Tree, label_smoothing: float) -> Tensor:
        assert batch.target_ids_T is not None
        return _cross_entropy(self._unpacked(batch), batch.target_ids_T, label_smoothing)

    def _unpacked(self, batch: MicroBatch | Tree) -> Tensor:
        """An architecture that was not tested for packing: rows of one case, and its own forward pass."""
        rows, length = batch.input_ids_BL.shape
        if isinstance(batch, Tree) or len(batch.case_ids) != rows:
            raise ValueError(f"{self.network.config.model_type} was not tested for packing: one case a row, please")
        valid_BL = (batch.segment_ids_BL > 0).long()
        logits: Tensor = self.hf(input_ids=batch.input_ids_BL, attention_mask=valid_BL).logits
        if batch.target_index_T is not None:
            return logits.flatten(0, 1).index_select(0, batch.target_index_T)
        return logits.index_select(0, batch.case_last_C // length)


def _cross_entropy(logits_TV: Tensor, target_ids_T: Tensor, label_smoothing: float) -> Tensor:
    return F.cross_entropy(logits_TV.float(), target_ids_T, reduction="none", label_smoothing=label_smoothing)


def _one_case_a_row(batch: MicroBatch | Tree) -> bool:
    return not isinstance(batch, Tree) and len(batch.case_ids) == batch.input_ids_BL.shape[0]
