"""Diagnoser: a Hugging Face model that reads packed micro-batches as plain transformers would read each case alone.

Micro-batches flow in; logits flow out, per case (classify) or at the target tokens only (generate). Submodules are
always called as modules, because the hooks that gather their parameters under ZeRO-3 hang there.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from distmed.model.attention import as_bias, block_mask, padding_mask
from distmed.model.candidates import Tree
from distmed.model.families import FAMILIES, Family
from distmed.model.head import Targets, with_loss

if TYPE_CHECKING:
    from distmed.stream.batch import MicroBatch

# B: rows, L: padded length, N: B x L, D: hidden size, C: cases, K: labels, T: target tokens, V: vocabulary.


class Diagnoser(nn.Module):
    """Wraps `hf`: an AutoModelForSequenceClassification (classify) or AutoModelForCausalLM (generate), or LoRA on it.

    `fresh` names the parameters of the classification head that no checkpoint gave values to.
    """

    def __init__(self, hf: Any, fresh: frozenset[str] = frozenset()) -> None:
        super().__init__()
        self.hf = hf
        self.fresh = fresh
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
        target_ids_T = batch.target_ids_T if label_smoothing is not None else None
        if target_ids_T is not None and not self.gives_losses:
            logits_TV = self(batch)
            return F.cross_entropy(
                logits_TV.float(), target_ids_T, reduction="none", label_smoothing=label_smoothing or 0.0
            )
        if self.family is None:
            return self._unpacked(batch)
        states_ND = self._states(batch, self.family).flatten(0, 1)
        if batch.target_index_T is not None:
            states_TD = states_ND.index_select(0, batch.target_index_T)
            if target_ids_T is not None:
                targets = Targets(target_ids_T, label_smoothing or 0.0, self._cap)
                return self.network.get_output_embeddings()(states_TD, targets)
            return self._vocabulary_logits(states_TD)
        index_C = batch.case_first_C if self.family.pools == "first" else batch.case_last_C
        return self.family.head(self.network, states_ND.index_select(0, index_C).unsqueeze(1))

    def _states(self, batch: MicroBatch | Tree, family: Family) -> Tensor:
        """Token states [B, L, D] of the backbone, each case seeing itself only.

        A packed flash attention that takes cumulative lengths would replace the mask here.
        """
        network = self.network
        backbone = getattr(network, network.base_model_prefix)
        options: dict[str, Any] = {"use_cache": False} if family.causal else {}
        one_case_a_row = not isinstance(batch, Tree) and len(batch.case_ids) == batch.input_ids_BL.shape[0]
        if not (family.causal and one_case_a_row):
            # Causal rows of one case need no mask: padding lies behind, and the kernel without a mask is faster.
            offset = backbone.embeddings.padding_idx + 1 if family.position_offset else 0
            options["position_ids"] = batch.position_ids_BL + offset
            options["attention_mask"] = self._masks(batch, family, one_case_a_row)
        return backbone(input_ids=batch.input_ids_BL, **options).last_hidden_state

    def _masks(self, batch: MicroBatch | Tree, family: Family, one_case_a_row: bool) -> Tensor | dict[str, Tensor]:
        config = self.network.config

        def mask(window: int | None) -> Tensor:
            if one_case_a_row:
                allowed = padding_mask(batch.segment_ids_BL)
            else:
                allowed = block_mask(
                    batch.segment_ids_BL,
                    batch.position_ids_BL,
                    causal=family.causal,
                    window=window,
                    branch_ids_BL=batch.branch_ids_BL if isinstance(batch, Tree) else None,
                )
            return allowed if config._attn_implementation == "sdpa" else as_bias(allowed, self.network.dtype)

        window = getattr(config, "sliding_window", None)
        if family.masks_by_layer:
            return {"full_attention": mask(None), "sliding_attention": mask(window)}
        return mask(window)

    def _vocabulary_logits(self, states_TD: Tensor) -> Tensor:
        logits_TV = self.network.get_output_embeddings()(states_TD)
        return logits_TV if self._cap is None else torch.tanh(logits_TV / self._cap) * self._cap

    @property
    def _cap(self) -> float | None:
        cap: float | None = getattr(self.network.config, "final_logit_softcapping", None)
        return cap

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
