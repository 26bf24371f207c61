"""Folders as `distmed evaluate` leaves them: evidence of the real functions over cases that were drawn."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from distmed.cases.case import Case
from distmed.evaluate.choice import choice_section
from distmed.evaluate.diagnosed import Diagnosed, write_predictions
from distmed.evaluate.evidence import evidence
from distmed.evaluate.integrity import integrity, rounded
from distmed.evaluate.labels import LabelSpace
from distmed.evaluate.learned import Learned

LONG = "Intellectual developmental disorder with autism, macrocephaly, pseudohypoparathyroidism and more besides"
HOSTILE = "<img src=x onerror=alert(1)> & <script>document.title='owned'</script>"
CLASSES = 16
ABSENT, RARE = 15, 3


def about(kind: str, **changes: Any) -> dict[str, Any]:
    data = {
        "source": "data/dev.jsonl",
        "format": "columns",
        "cases": 300,
        "groups": 60,
        "hash": "c" * 64,
        "dropped": {"where": 3},
    }
    model = {
        "name": "runs/" + "a-very-long-name-without-a-space-" * 4,
        "hash": "e" * 64,
        "architecture": "bert",
        "task": "classify",
        "parameters": 22_713_216,
        "dtype": "float32",
        "head": "trained",
        "checkpoint": None,
    }
    prompt = {
        "version": 1,
        "hash": "1" * 16,
        "example_free": True,
        "seq_len": 256,
        "excluded_findings": True,
        "template": "2" * 16,
    }
    return {
        "version": 1,
        "kind": kind,
        "model": model,
        "data": data,
        "train": None,
        "calibration": None,
        "against": None,
        "prompt": prompt,
        "versions": {"distmed": "0.1.0", "python": "3.11"},
        "small_cells": False,
        **changes,
    }


def diagnosed(drawn: Any, names: list[str]) -> Diagnosed:
    labels = [f"OMIM:{k}" for k in range(CLASSES)]
    ages = ["2-11", "12-17", "65+"]
    cases = [
        Case(
            id=f"patient-{n}",
            kind="diagnosis",
            group=group,
            findings=("x",),
            label=labels[gold],
            label_name=names[gold],
            subgroups={"sex": ["female", "male"][n % 2], "age": ages[n % 3] if n > 2 else "80-89"},
        )
        for n, (gold, group) in enumerate(zip(drawn.gold_N.tolist(), drawn.groups, strict=True))
    ]
    count = len(cases)
    table = pa.table(
        {
            "scores": pa.array(drawn.probabilities_NK.tolist(), pa.list_(pa.float32())),
            "prompt_hash": [f"{n:016x}" for n in range(count)],
            "tokens": pa.array([9] * count, pa.int32()),
            "cut": [False] * count,
        }
    )
    return Diagnosed.of(cases, table, LabelSpace(labels, names))


@pytest.fixture(scope="session")
def metrics(drawn: Callable[..., Any]) -> tuple[dict[str, Any], Diagnosed]:
    """Evidence over 300 cases of 16 diseases, one without a case and one with three; and what it was made from."""
    names = [f"Disease number {k}" for k in range(CLASSES)]
    names[0], names[1] = LONG, HOSTILE
    here = drawn(cases=300, classes=CLASSES)
    here.gold_N[here.gold_N == ABSENT] = 0
    here.gold_N[np.flatnonzero(here.gold_N == RARE)[3:]] = 0
    scored = diagnosed(here, names)
    found, _ = evidence(
        scored, Learned.of(diagnosed(drawn(cases=200, classes=CLASSES, seed=1), names)), small_cells=False
    )
    rival = {
        "this": 0.7,
        "other": 0.6,
        "difference": {"value": 0.1, "low": 0.05, "high": 0.15, "n": 300, "method": "bootstrap"},
    }
    mcnemar = {"only_this": 40, "only_other": 10, "p": 1e-5, "p_holm": 2e-5, "method": "exact McNemar"}
    found["comparison"] = [
        {
            "with": "linear floor",
            "name": "linear floor",
            "n": 300,
            "mcnemar": mcnemar,
            "figures": {"top1": rival, "ece": rival},
        }
    ]
    change = {"value": -0.02, "low": -0.04, "high": 0.01, "n": 200, "method": "bootstrap"}
    typos = {"name": "typos", "n": 200, "before": 0.7, "after": 0.68, "change": change}
    found["robustness"] = [{**typos, "flips": {**change, "value": 0.1}}]
    found["counterfactual"] = []
    found["integrity"] = integrity(scored.cases, scored.table["prompt_hash"].to_pylist(), 0, found["top1"], "d" * 64)
    found["labels"] = {"from": "model", **found["labels"]}
    return rounded({"about": about("diagnosis"), **found}), scored


@pytest.fixture
def folder(tmp_path: Path, metrics: tuple[dict[str, Any], Diagnosed]) -> Callable[..., Path]:
    """`folder(top1=…)`: a folder with metrics.json, predictions.parquet and speed.json; keywords change metrics."""

    def make(**changes: Any) -> Path:
        values, scored = metrics
        (tmp_path / "metrics.json").write_text(json.dumps({**values, **changes}))
        write_predictions(tmp_path / "predictions.parquet", scored, values["about"], None)
        speed = {
            "cases_per_s": 812.3,
            "tokens_per_s": 41230.4,
            "latency_p50_s": 0.012,
            "latency_p95_s": 0.02,
            "latency_n": 20,
        }
        memory = {"device_peak_gib": None, "host_peak_gib": 1.3, "workers": 1, "wall_s": 3.1, "device": "cpu"}
        (tmp_path / "speed.json").write_text(json.dumps({**speed, **memory}))
        return tmp_path

    return make


@pytest.fixture
def exam(tmp_path: Path) -> Path:
    """A folder of exam questions, answered at random."""
    random = np.random.default_rng(0)
    rows = [
        {
            "group": f"exam-{n % 20}",
            "gold": "ABCD"[n % 4],
            "predicted": "ABCD"[int(random.integers(4))],
            "candidates": list("ABCD"),
            "option_loglik": random.normal(size=4).tolist(),
            "rotated_loglik": random.normal(size=16).tolist(),
            "text_loglik": random.normal(size=4).tolist(),
            "text_chars": [3, 4, 5, 6],
            "parsed": None,
            "shots_used": 5,
        }
        for n in range(120)
    ]
    choice = {"shots": 5, "shot_choice": "fixed", "shot_seed": 1, "max_new_tokens": 16, "chat": False}
    templates = {"letter": "{{ question }}\nAnswer:", "text": "Question: {{ question }}"}
    here = about("choice")
    here["prompt"]["choice"] = {**choice, "templates": templates}
    section = choice_section(pa.Table.from_pylist(rows))
    values = {"about": here, "top1": section["letter"], "choice": section, "labels": {"from": "data"}, "notes": []}
    (tmp_path / "metrics.json").write_text(json.dumps(rounded(values)))
    return tmp_path
