"""Diagnosis by a generator: each eval case is scored over the names of all labels, as the answer that the model would write.

Micro-batches of eval cases flow in, probabilities over the labels flow out: the softmax of the answers' log-likelihoods.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
import torch.distributed as dist
from torch import Tensor

from distmed.evaluate.inference import answer_ids
from distmed.model.candidates import plant, score
from distmed.stream.encode import Encode
from distmed.train.job import Job

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from distmed.stream.batch import MicroBatch


class Answers:
    """The token ids of every label's name as an answer, and the scoring of prompts against them."""

    def __init__(self, job: Job, tokenizer: PreTrainedTokenizerBase) -> None:
        encode = Encode(job.recipe, tokenizer, {})
        self.answers = [answer_ids(encode, name) for name in job.label_names]
        self.rows = job.recipe.train.micro_batch
        self.pad_id = tokenizer.pad_token_id or 0
        self.max_length = max(job.recipe.data.seq_len, 512)

    def probabilities(self, scored: Callable[..., Tensor], prompts: list[list[int]], device: torch.device) -> Tensor:
        """probabilities_NK over the labels, for this worker's prompts, by passes through `scored`. A collective: all workers
        call it, also with none."""
        shape = (len(prompts), len(self.answers))
        trees = plant(
            prompts, [self.answers] * len(prompts), rows=self.rows, max_length=self.max_length, pad_id=self.pad_id
        )
        passes = torch.tensor(len(trees), device=device)
        dist.all_reduce(passes, op=dist.ReduceOp.MAX)
        log_likelihood_NK, _ = score(scored, trees, shape, device, passes=int(passes))
        return torch.softmax(log_likelihood_NK, dim=-1)


def prompts_of(batch: MicroBatch) -> list[list[int]]:
    """The ids of each case of a generate micro-batch up to where its answer begins."""
    assert batch.target_index_T is not None
    ids_N = batch.input_ids_BL.flatten()
    prompts = []
    for first, last in zip(batch.case_first_C.tolist(), batch.case_last_C.tolist(), strict=True):
        inside = batch.target_index_T[(batch.target_index_T >= first) & (batch.target_index_T <= last)]
        prompts.append(ids_N[first : int(inside[0]) + 1].tolist())
    return prompts
