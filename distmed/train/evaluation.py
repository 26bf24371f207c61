"""Evaluation inside training: every worker scores its share of the eval cases, the first computes the exact global metrics.

Metrics are computed over all cases at once, never averaged over batches, so they do not depend on the number of workers.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import ray
import torch
import torch.distributed as dist

from distmed.errors import UserError, one_of
from distmed.evaluate.metrics import confusion_cells, diagnosis_metrics, per_disease
from distmed.model.loss import plain_loss_sum
from distmed.stream.stream import Stream
from distmed.train.job import Job
from distmed.train.probe import take, to_bytes
from distmed.train.state import Best, RunState

if TYPE_CHECKING:
    from deepspeed import DeepSpeedEngine
    from transformers import PreTrainedTokenizerBase

LOWER_IS_BETTER = frozenset({"eval/loss", "diag/ece", "diag/brier"})


@dataclass(frozen=True)
class Scores:
    """What the workers found, in the order of the cases: labels N, probabilities N x K (classify only), the loss sum."""

    gold_N: np.ndarray
    probabilities_NK: np.ndarray
    loss: float


class Evaluator:
    """Scores the eval cases of a job. All ranks build one, and all call `run`."""

    def __init__(self, job: Job, tokenizer: PreTrainedTokenizerBase, rank: int, world_size: int) -> None:
        assert job.eval_plan is not None
        self.job = job
        self.rank = rank
        self.stream = Stream(job.eval_plan, tokenizer, rank, world_size)
        self.subgroups = subgroups(job) if rank == 0 else {}
        self.probe: dict[str, Any] = {}

    def run(self, engine: DeepSpeedEngine, state: RunState, logbook: Any) -> bool:
        """Score, log, and say whether this is the best evaluation so far (the same answer on every rank)."""
        scores = self._gather(*self._score(engine))
        outcome: list[dict[str, float] | UserError] = [{}]
        if scores is not None:
            try:
                outcome[0] = self._report(scores, state, logbook)
            except UserError as error:
                outcome[0] = error
        dist.broadcast_object_list(outcome, src=0)
        if isinstance(outcome[0], UserError):
            raise outcome[0]
        state.evaluation = outcome[0]
        improves = self._improves(state)
        if improves and self.rank == 0 and self.probe:
            dtype = "bf16" if self.job.bf16 else "float32"
            ray.get(logbook.keep_probe.remote(to_bytes({**self.probe, "step": state.step, "dtype": dtype})))
        return improves

    @torch.no_grad()
    def _score(
        self, engine: DeepSpeedEngine
    ) -> tuple[list[np.ndarray], list[np.ndarray], list[np.ndarray], float, float]:
        engine.eval()
        numbers, labels, probabilities = [], [], []
        self.probe = {}
        loss = torch.zeros((), device=engine.device)
        targets = 0.0
        for step in self.stream.steps(0):
            targets += step.denominator
            for batch in step.micro_batches:
                batch = batch.to(engine.device)
                logits = engine(batch)
                if batch.masked:
                    continue
                loss += plain_loss_sum(logits, batch)
                self.probe = self.probe or take(batch, logits, self.job.recipe.task)
                if self.job.recipe.task == "classify":
                    numbers.append(batch.case_number_C.cpu().numpy())
                    labels.append(batch.case_label_C.cpu().numpy())
                    probabilities.append(torch.softmax(logits.float(), dim=-1).cpu().numpy())
        return numbers, labels, probabilities, loss.item(), targets

    def _gather(
        self,
        numbers: list[np.ndarray],
        labels: list[np.ndarray],
        probabilities: list[np.ndarray],
        loss: float,
        targets: float,
    ) -> Scores | None:
        """Every worker's scores, sorted by case, on the first; None on the others."""
        classes = len(self.job.labels)
        mine = (
            np.concatenate(numbers) if numbers else np.empty(0, np.int64),
            np.concatenate(labels) if labels else np.empty(0, np.int64),
            np.concatenate(probabilities) if probabilities else np.empty((0, classes), np.float32),
            loss,
        )
        parts: list[Any] | None = [None] * dist.get_world_size() if self.rank == 0 else None
        dist.gather_object(mine, parts)
        if parts is None:
            return None
        number_N, gold_N, probabilities_NK = (np.concatenate([part[i] for part in parts]) for i in range(3))
        order = np.argsort(number_N, kind="stable")
        if self.job.recipe.task == "classify" and not np.array_equal(number_N[order], np.arange(len(order))):
            raise RuntimeError("an eval case was scored twice or not at all")
        return Scores(gold_N[order], probabilities_NK[order], sum(part[3] for part in parts) / targets)

    def _report(self, scores: Scores, state: RunState, logbook: Any) -> dict[str, float]:
        metrics = {"eval/loss": scores.loss}
        if len(scores.gold_N):
            metrics |= diagnosis_metrics(scores.probabilities_NK, scores.gold_N, self.job.labels, self.subgroups)
            predicted_N = scores.probabilities_NK.argmax(axis=1)
            names = self.job.label_names
            confusion = confusion_cells(scores.gold_N, predicted_N, names)
            logbook.log_tables.remote(state.step, confusion, per_disease(scores.gold_N, predicted_N, names))
        return metrics

    def _improves(self, state: RunState) -> bool:
        name = self.job.recipe.checkpoint.best
        if name not in state.evaluation:
            raise UserError(
                f"checkpoint.best: the evaluation gave no {name}", f"use one of {one_of(sorted(state.evaluation))}"
            )
        value = state.evaluation[name]
        better = state.best is None or (
            value < state.best.value if name in LOWER_IS_BETTER else value > state.best.value
        )
        if better:
            state.best = Best(value, state.step)
        return better


def subgroups(job: Job) -> dict[str, list[str]]:
    """The subgroup columns (sex, age band, …) of every eval case, in order."""
    from distmed.prepare.shards import read_cases_of

    assert job.eval_plan is not None
    cases = [case.subgroups for manifest in job.eval_plan.manifests for case in read_cases_of(manifest)]
    names = sorted({name for case in cases for name in case})
    return {name: [case.get(name, "unknown") for case in cases] for name in names}
