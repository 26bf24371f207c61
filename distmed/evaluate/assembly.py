"""Assembly: scored cases become the content of metrics.json and predictions.parquet, for diagnoses and for exam questions."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from distmed.cases.case import Case
from distmed.evaluate import exam
from distmed.evaluate.cells import without_small_cells
from distmed.evaluate.diagnosed import Diagnosed, write_choices, write_predictions
from distmed.evaluate.evidence import evidence
from distmed.evaluate.integrity import integrity
from distmed.evaluate.labels import LabelSpace
from distmed.evaluate.learned import Learned
from distmed.evaluate.perturb import COUNTERFACTUALS, PERTURBATIONS
from distmed.evaluate.perturbed import chosen, perturbed
from distmed.evaluate.pool import Mode
from distmed.evaluate.reading import Read
from distmed.evaluate.rivals import Rival, compare_all, floors, second_model

if TYPE_CHECKING:
    import pyarrow as pa

Metrics = dict[str, Any]
Ask = Callable[[list[Case], str, Mode], "pa.Table"]
"""Have more cases scored by the model; the text says what is being done."""
Other = tuple[str, LabelSpace, "pa.Table"]
"""A second model's name, labels and table."""


@dataclass(frozen=True)
class Scored:
    """Everything that was read and scored. `other` is a second model, `texts` what the model was told of each case, where a
    person asked for it."""

    data: Read
    table: pa.Table
    space: LabelSpace
    train: Read | None
    calibration: Read | None
    calibration_table: pa.Table | None
    other: Other | None
    ask: Ask
    texts: list[str] | None = None


def diagnoses(scored: Scored, about: Metrics, out: Path, *, small_cells: bool) -> tuple[Metrics, Learned | None]:
    """The evidence over diagnoses, and what the calibration split taught."""
    cases = scored.data.cases
    found = Diagnosed.of(cases, scored.table, scored.space)
    learned = None
    if scored.calibration is not None and scored.calibration_table is not None:
        learned = Learned.of(Diagnosed.of(scored.calibration.cases, scored.calibration_table, scored.space))
    metrics, weights_BN = evidence(found, learned, small_cells=small_cells)
    rivals: list[Rival] = []
    if scored.other is not None:
        name, space, table = scored.other
        rivals.append(second_model(name, Diagnosed.of(cases, table, space), found.in_set))
    if scored.train is not None:
        rivals += floors(scored.train.cases, found)
    if rivals:
        metrics["comparison"] = compare_all(found, rivals, weights_BN)
    labels = scored.space.labels

    def answer(others: list[Case], doing: str) -> list[str]:
        flat = scored.ask(others, doing, "diagnosis")["scores"].combine_chunks().flatten().to_numpy()
        return [labels[k] for k in flat.reshape(len(others), len(labels)).argmax(axis=1).tolist()]

    places = [int(found.in_set[n]) for n in chosen([cases[n] for n in found.in_set.tolist()])]
    gold = [labels[k] for k in found.gold_N.tolist()]
    before = [labels[k] for k in found.predicted_N.tolist()]
    metrics |= _perturbed(cases, places, gold, before, answer)
    metrics["integrity"] = _integrity(scored, metrics)
    limit = learned.thresholds.risk_5 if learned else None
    abstain_N = None if learned is None else found.confidence_N < (np.inf if limit is None else limit)
    write_predictions(out / "predictions.parquet", found, about, abstain_N, scored.texts)
    return metrics if small_cells else without_small_cells(metrics), learned


def exams(scored: Scored, about: Metrics, out: Path, *, small_cells: bool) -> tuple[Metrics, None]:
    """The evidence over exam questions, which take no calibration split."""
    cases = scored.data.cases
    metrics = exam.exam_evidence(cases, scored.table, small_cells=small_cells)
    rivals = [exam.second_model(scored.other[0], cases, scored.other[2])] if scored.other is not None else []
    if scored.train is not None:
        rivals += exam.floors(scored.train.cases, cases, scored.table)
    if rivals:
        metrics["comparison"] = exam.compare_exams(cases, scored.table, rivals)

    def answer(others: list[Case], doing: str) -> list[str]:
        said: list[str] = scored.ask(others, doing, "letters")["predicted"].to_pylist()
        return said

    gold, before = [str(case.label) for case in cases], scored.table["predicted"].to_pylist()
    metrics |= _perturbed(cases, chosen(cases), gold, before, answer)
    metrics["integrity"] = _integrity(scored, metrics)
    write_choices(out / "predictions.parquet", cases, scored.table, about, scored.texts)
    return metrics if small_cells else without_small_cells(metrics), None


def _perturbed(
    cases: list[Case], places: list[int], gold: list[str], before: list[str], answer: Callable[..., list[str]]
) -> Metrics:
    few, truth, former = [cases[n] for n in places], [gold[n] for n in places], [before[n] for n in places]
    ways = {"robustness": PERTURBATIONS, "counterfactual": COUNTERFACTUALS}
    return {section: perturbed(few, truth, former, of_section, answer) for section, of_section in ways.items()}


def _integrity(scored: Scored, metrics: Metrics) -> Metrics:
    cut = sum(scored.table["cut"].to_pylist())
    if cut:
        metrics["notes"].append(f"{cut} prompts were longer than the model reads and were cut.")
    return integrity(
        scored.data.cases, scored.table["prompt_hash"].to_pylist(), cut, metrics["top1"], scored.data.manifest.hash
    )
