"""Sequence parallelism (DeepSpeed-Ulysses, arXiv:2309.14509): n workers share the tokens of the same sequences.

Each holds a part of the tokens. For attention they exchange: out of all heads of a part become some heads of all tokens, and
back. The exchange is DeepSpeed's; their wrapper around it takes micro-batches of one size only. What was shifted, packed or
counted is so before the tokens are divided, so that n changes nothing. Evaluations run whole sequences on each worker.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from torch import Tensor
from torch.nn import functional as F

if TYPE_CHECKING:
    from distmed.stream.batch import MicroBatch

# B: rows, L: all tokens, P: those of a part, H: all heads, G: those of a worker, E: head size, n: workers that share.


class Sharing:
    """This worker's part among the `n` neighbors in rank that share sequences. Every worker of the run makes one."""

    def __init__(self, network: Any, n: int) -> None:
        import torch.distributed as dist
        from deepspeed.sequence.layer import register_all_to_all_group

        self.n = n
        self.part = dist.get_rank() % n
        for first in range(0, dist.get_world_size(), n):
            group = dist.new_group(list(range(first, first + n)))
            if first <= dist.get_rank() < first + n:
                self._group = group
        register_all_to_all_group(self._group)
        self._wrap(network.config._attn_implementation)

    def evened(self, batch: MicroBatch) -> MicroBatch:
        """With as much padding behind the rows as makes n equal parts."""
        length = batch.input_ids_BL.shape[1]
        more = -length % self.n
        if not more:
            return batch
        assert batch.target_index_T is not None
        index_T = batch.target_index_T
        return replace(
            batch,
            input_ids_BL=F.pad(batch.input_ids_BL, (0, more)),
            position_ids_BL=F.pad(batch.position_ids_BL, (0, more)),
            segment_ids_BL=F.pad(batch.segment_ids_BL, (0, more)),
            target_index_T=index_T + index_T // length * more,
        )

    def tokens(self, x_BL: Tensor) -> Tensor:
        """This worker's part of the columns."""
        return x_BL.chunk(self.n, dim=1)[self.part].contiguous()

    def targets(self, batch: MicroBatch) -> tuple[Tensor, Tensor]:
        """The targets among this worker's tokens: flat indices within its part, and their ids."""
        assert batch.target_index_T is not None and batch.target_ids_T is not None
        length = batch.input_ids_BL.shape[1]
        part = length // self.n
        column_T = batch.target_index_T % length
        mine = column_T // part == self.part
        index_T = batch.target_index_T // length * part + column_T - self.part * part
        return index_T[mine], batch.target_ids_T[mine]

    def _wrap(self, implementation: str) -> None:
        """Let the exchange surround attention wherever transformers calls it in training."""
        from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

        core = ALL_ATTENTION_FUNCTIONS[implementation]

        def attention(module: Any, q: Tensor, k: Tensor, v: Tensor, mask: Any, **options: Any) -> Any:
            if not module.training:
                return core(module, q, k, v, mask, **options)
            out_BLGE, weights = core(module, *(self._all_tokens(x) for x in (q, k, v)), mask, **options)
            return self._all_heads(out_BLGE), weights

        ALL_ATTENTION_FUNCTIONS[implementation] = attention

    def _all_tokens(self, x_BHPE: Tensor) -> Tensor:
        rows, heads, part, size = x_BHPE.shape
        split = x_BHPE.reshape(rows, self.n, heads // self.n, part, size)
        x_nBGPE = self._exchange(split.permute(1, 0, 2, 3, 4))
        return x_nBGPE.permute(1, 2, 0, 3, 4).reshape(rows, heads // self.n, self.n * part, size)

    def _all_heads(self, x_BLGE: Tensor) -> Tensor:
        rows, length, heads, size = x_BLGE.shape
        split = x_BLGE.reshape(rows, self.n, length // self.n, heads, size)
        x_nBPGE = self._exchange(split.permute(1, 0, 2, 3, 4))
        return x_nBPGE.permute(1, 2, 0, 3, 4).reshape(rows, length // self.n, self.n * heads, size)

    def _exchange(self, x_n: Tensor) -> Tensor:
        """The i-th of n goes to the i-th worker; what the j-th worker sent comes as the j-th."""
        from deepspeed.sequence.layer import _dim_zero_all_to_all

        exchanged: Tensor = _dim_zero_all_to_all(self._group, x_n)
        return exchanged
