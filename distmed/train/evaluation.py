"""Evaluation inside training: every worker scores its share of the eval cases, the first computes the exact global metrics.

Metrics are computed over all cases at once, never averaged over batches, so they do not depend on the number of workers.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import ray
import torch
import torch.distributed as dist
from torch import Tensor

from distmed.errors import UserError, one_of
from distmed.evaluate.figure import SMALLEST_CELL
from distmed.evaluate.metrics import LOWER_IS_BETTER, confusion_cells, diagnosis_metrics, per_disease
from distmed.evaluate.plots import plots
from distmed.evaluate.subgroups import subgroup_columns
from distmed.model.loss import plain_loss_sum
from distmed.stream.build import MAX_LABELS
from distmed.stream.plan import StreamPlan
from distmed.stream.stream import Stream
from distmed.train.answers import Answers, prompts_of
from distmed.train.cases import numbered_cases
from distmed.train.job import Job
from distmed.train.probe import take, to_bytes
from distmed.train.state import Best, RunState, eval_cases

if TYPE_CHECKING:
    from deepspeed import DeepSpeedEngine
    from transformers import PreTrainedTokenizerBase


@dataclass(frozen=True)
class Scores:
    """Numbers and labels of N cases, their probabilities over K labels (no row where nothing is diagnosed), and the loss.

    `targets` are those of all workers: what `loss_sum`, summed over the workers, is divided by.
    """

    number_N: np.ndarray
    gold_N: np.ndarray
    probabilities_NK: np.ndarray
    loss_sum: float
    targets: float


class AbandonedError(Exception):
    """A stop was asked for while cases were scored: a signal gives too little time for the rest of them."""


class Evaluator:
    """Scores the eval cases of a job. All ranks build one, and all call `run`."""

    def __init__(self, job: Job, tokenizer: PreTrainedTokenizerBase, rank: int, world_size: int) -> None:
        assert job.eval_plan is not None
        self.job = job
        self.rank = rank
        self.stream = Stream(job.eval_plan, tokenizer, rank, world_size)
        generates = job.recipe.task == "generate" and 0 < len(job.labels) <= MAX_LABELS
        self.answers = Answers(job, tokenizer) if generates else None
        self.labeled_M, self.subgroups = labeled_cases(job.eval_plan) if rank == 0 else (np.empty(0, np.int64), {})
        self.probe: dict[str, Any] = {}

    def run(self, engine: DeepSpeedEngine, state: RunState, logbook: Any, stop_asked: Callable[[], bool]) -> bool:
        """Score, log, and say whether this is the best evaluation so far (the same answer on every rank).

        Where `stop_asked` on any rank it is abandoned, and `state.evaluated` stays behind the step.
        """
        try:
            scores = self._gather(self._score(engine, stop_asked))
        except AbandonedError:
            return False
        outcome: list[dict[str, float] | UserError] = [{}]
        if scores is not None:
            try:
                outcome[0] = self._report(scores, state, logbook)
            except UserError as error:
                outcome[0] = error
        dist.broadcast_object_list(outcome, src=0)
        if isinstance(outcome[0], UserError):
            raise outcome[0]
        state.evaluation, state.evaluated = outcome[0], state.step
        improves = self._improves(state)
        name = self.job.recipe.checkpoint.best
        if self.rank == 0 and math.isnan(state.evaluation[name]):
            logbook.note.remote(f"checkpoint.best: {name} is nan after step {state.step}, which cannot be the best")
        if improves and self.rank == 0 and self.probe:
            dtype = "bf16" if self.job.bf16 else "float32"
            ray.get(logbook.keep_probe.remote(to_bytes({**self.probe, "step": state.step, "dtype": dtype})))
        return improves

    @torch.no_grad()
    def _score(self, engine: DeepSpeedEngine, stop_asked: Callable[[], bool]) -> Scores:
        """This worker's share of the cases; those of stand-ins do not count."""
        engine.eval()

        def scored(batch: Any, **options: Any) -> Tensor:
            wish = torch.tensor(float(stop_asked()), device=engine.device)
            # A pass is made by all workers or by none.
            dist.all_reduce(wish)
            if wish:
                raise AbandonedError
            outcome: Tensor = engine(batch, **options)
            return outcome

        self.probe = {}
        numbers, labels = [torch.empty(0, dtype=torch.long)], [torch.empty(0, dtype=torch.long)]
        probabilities = [torch.empty(0, len(self.job.labels))]
        prompts: list[list[int]] = []
        loss = torch.zeros((), device=engine.device)
        targets = 0.0
        classifies = self.job.recipe.task == "classify"
        probed = False
        for step in self.stream.steps(0):
            targets += step.denominator
            for batch in step.micro_batches:
                on_device = batch.to(engine.device)
                if not probed:
                    taken, probed = take(batch, lambda asked: scored(asked.to(engine.device))), True
                    self.probe = {} if batch.masked else taken
                # Over a vocabulary the logits of all targets would not fit where training does: losses alone.
                outcome = scored(on_device) if classifies else scored(on_device, label_smoothing=0.0)
                if batch.masked:
                    continue
                loss += plain_loss_sum(outcome, on_device) if classifies else outcome.sum()
                numbers.append(batch.case_number_C)
                labels.append(batch.case_label_C)
                if classifies:
                    probabilities.append(torch.softmax(outcome.float(), dim=-1).cpu())
                elif self.answers:
                    prompts += prompts_of(batch)
        if self.answers:
            probabilities.append(self.answers.probabilities(scored, prompts, engine.device).cpu())
        return Scores(
            torch.cat(numbers).numpy(),
            torch.cat(labels).numpy(),
            torch.cat(probabilities).numpy(),
            loss.item(),
            targets,
        )

    def _gather(self, mine: Scores) -> Scores | None:
        """Every worker's scores in the order of the cases, on the first worker; None on the others."""
        parts: list[Any] | None = [None] * dist.get_world_size() if self.rank == 0 else None
        dist.gather_object(mine, parts)
        if parts is None:
            return None
        number_N, gold_N, probabilities_NK = (
            np.concatenate([getattr(part, name) for part in parts])
            for name in ("number_N", "gold_N", "probabilities_NK")
        )
        order = np.argsort(number_N, kind="stable")
        assert self.job.eval_plan is not None
        if len(order) != self.job.eval_plan.cases or not np.diff(number_N[order]).all():
            raise RuntimeError("an eval case was scored twice or not at all")
        if len(probabilities_NK):
            probabilities_NK = probabilities_NK[order]
        return Scores(
            number_N[order], gold_N[order], probabilities_NK, sum(part.loss_sum for part in parts), mine.targets
        )

    def _report(self, scores: Scores, state: RunState, logbook: Any) -> dict[str, float]:
        metrics = {"eval/loss": scores.loss_sum / scores.targets} if scores.targets else {}
        if len(scores.probabilities_NK) and len(self.labeled_M):
            at_M = np.searchsorted(scores.number_N, self.labeled_M)
            probabilities_MK, gold_M = scores.probabilities_NK[at_M], scores.gold_N[at_M]
            metrics |= diagnosis_metrics(probabilities_MK, gold_M, self.job.labels, self.subgroups)
            predicted_M = probabilities_MK.argmax(axis=1)
            names = self.job.label_names
            confusion = confusion_cells(gold_M, predicted_M, names)
            rows = per_disease(gold_M, predicted_M, names)
            least = 1 if self.job.recipe.tracking.log_examples else SMALLEST_CELL
            drawn = plots(probabilities_MK, gold_M, least)
            logbook.log_tables.remote(state.step, confusion, rows, drawn)
        return metrics

    def _improves(self, state: RunState) -> bool:
        name = self.job.recipe.checkpoint.best
        if name not in state.evaluation:
            raise UserError(
                f"checkpoint.best: the evaluation gave no {name}", f"use one of {one_of(sorted(state.evaluation))}"
            )
        value = state.evaluation[name]
        better = not math.isnan(value) and (
            state.best is None or (value < state.best.value if name in LOWER_IS_BETTER else value > state.best.value)
        )
        if better:
            state.best, state.judged_by, state.judged_on = Best(value, state.step), name, eval_cases(self.job)
        return better


def labeled_cases(plan: StreamPlan) -> tuple[np.ndarray, dict[str, list[str]]]:
    """The numbers of the M cases with a label, and their subgroup columns: of the others no diagnosis is right or wrong."""
    labeled = {number: case.subgroups for number, case in numbered_cases(plan) if case.label is not None}
    return np.array(list(labeled), dtype=np.int64), subgroup_columns(list(labeled.values()))
