"""Limits: what this evidence can and cannot carry, in the order of the TRIPOD-LLM guideline.

Metrics flow in; (topic, what the report says, whether it is answered here) flows out. What no program can know is asked of the
authors, in words that they can answer.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from distmed.evaluate.figure import FEW

SOURCE = "Gallifant et al. 2025, TRIPOD-LLM, doi:10.1038/s41591-024-03425-5"


class Limit(NamedTuple):
    topic: str
    says: str
    answered: bool


def limits(metrics: Mapping[str, Any]) -> list[Limit]:
    """Known facts first where there are any; `answered` is False where the authors have to add something."""
    about = metrics["about"]
    return [
        Limit(
            "Intended use",
            "Research on retrospective, labeled cases. Nothing here shows benefit or safety for patients; the model must not "
            "be used to diagnose, triage or treat. State who should use it, at which point of care, and with whose oversight.",
            False,
        ),
        Limit("Data", _data(about), False),
        Limit("Overlap with training", _overlap(metrics), bool(about.get("train"))),
        Limit("Model", _model(about), about["model"].get("head") != "untrained"),
        Limit("Input and prompt", _prompt(about, metrics), True),
        Limit("Reference standard", _reference(metrics), False),
        Limit("Sample size", _sample(metrics), True),
        Limit("Uncertainty of answers", _uncertainty(metrics), _fitted(metrics) > 0),
        Limit("Fairness", _fairness(metrics), bool(metrics.get("subgroups"))),
        Limit(
            "Generalization",
            "One data set at one time. Other hospitals, languages, wordings and mixes of diseases will give other figures; "
            "predictive values change with prevalence. Repeat this report on cases of the place of use.",
            False,
        ),
        Limit(
            "Missing from any such report",
            "Clinical workflow, effect on decisions, harm from wrong answers, cost, ethics approval, funding, protocol and "
            "registration, patient involvement. The authors have to state them.",
            False,
        ),
    ]


def _data(about: Mapping[str, Any]) -> str:
    data = about["data"]
    dropped = sum(data.get("dropped", {}).values())
    left_out = f" {dropped:,} rows were left out by rule." if dropped else ""
    return (
        f"{data['cases']:,} cases in {data['groups']:,} groups (patients, papers or exams) from {data['source']}.{left_out} "
        "State where and when they were collected, who could be included, and how they differ from those it is meant for."
    )


def _overlap(metrics: Mapping[str, Any]) -> str:
    train = metrics["about"].get("train")
    pretraining = "Whether the model's pretraining saw these cases cannot be known from here."
    if not train:
        return f"No training split was given, so overlap was not looked for. {pretraining}"
    return (
        f"Groups were compared with the training split ({train['cases']:,} cases); what they share stands in the notes. "
        f"{pretraining}"
    )


def _model(about: Mapping[str, Any]) -> str:
    model = about["model"]
    head = " Its head is untrained: the answers are chance." if model.get("head") == "untrained" else ""
    return (
        f"{model['architecture']}, {model['parameters']:,} parameters, {model['dtype']}, hash {model['hash'][:12]}.{head} "
        "It answers from the text alone: no examination, image or follow-up."
    )


def _prompt(about: Mapping[str, Any], metrics: Mapping[str, Any]) -> str:
    prompt = about["prompt"]
    cut = metrics.get("integrity", {}).get("cut", 0)
    excluded = "with" if prompt.get("excluded_findings") else "without"
    told = "" if about.get("kind") == "choice" else f" Findings are given {excluded} those looked for and not found."
    return (
        f"One fixed wording (hash {prompt['hash'][:12]}), at most {prompt['seq_len']:,} tokens; {cut:,} were cut.{told} "
        "Another wording gives other figures: see the section on other words."
    )


def _reference(metrics: Mapping[str, Any]) -> str:
    unknown = metrics.get("out_of_set", {}).get("cases", 0)
    told = FEW if unknown is None else f"{unknown:,} cases"
    outside = f" {told} have a diagnosis that the model does not know." if unknown != 0 else ""
    return f"The label of the data counts as the truth.{outside} State who set it, how, and how often experts disagree."


def _sample(metrics: Mapping[str, Any]) -> str:
    present = [row for row in metrics.get("per_disease", []) if row["n"] != 0]
    few, rows = sum(bool(row["few"]) for row in present), len(present)
    draws = set(_draws(metrics))
    how_many = f" ({' to '.join(f'{n:,}' for n in sorted({min(draws), max(draws)}))} draws)" if draws else ""
    thin = f" {few:,} of {rows:,} diseases have fewer than 10 cases; their own figures are rough." if few else ""
    return (
        f"Intervals are 95 %: Wilson for proportions of cases that share no group, bootstrap over whole groups{how_many} "
        f"for the rest.{thin} They cover chance in the choice of cases, not wrong labels or another population."
    )


def _draws(value: Any) -> Iterator[int]:
    """How many draws each figure took; rank figures of many cases take fewer."""
    if isinstance(value, list):
        for inner in value:
            yield from _draws(inner)
    elif isinstance(value, Mapping):
        for key, inner in value.items():
            if key in ("method", "cluster_method") and (found := re.search(r"(\d+) draws", inner or "")):
                yield int(found[1])
            yield from _draws(inner)


def _uncertainty(metrics: Mapping[str, Any]) -> str:
    if metrics["about"].get("kind") == "choice":
        return "The confidence of a letter was not calibrated."
    fitted = _fitted(metrics)
    if not fitted:
        return (
            "No calibration split was given: confidences are the model's own, and no threshold to abstain was learned."
        )
    return (
        f"Temperature, thresholds and conformal sets were learned on {fitted:,} other cases and applied here unchanged."
    )


def _fairness(metrics: Mapping[str, Any]) -> str:
    names = ", ".join(metrics.get("subgroups", {}))
    if not names:
        return "The data tell no subgroup, so unequal performance cannot be seen."
    return (
        f"Compared by {names}. A largest gap is above 0 by chance alone: read it with its interval. "
        "What the data do not record (ancestry, language, income, access to care) was not looked at."
    )


def _fitted(metrics: Mapping[str, Any]) -> int:
    return int(metrics.get("calibration", {}).get("fitted_on") or 0)
