"""`distmed evaluate`: reads top to bottom as what it does: open, read, score, count, write.

Names of models and sources flow in; predictions.parquet, metrics.json, speed.json and report.html flow out. What a user got
wrong is found before a model is loaded, as far as it can be.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from distmed import session
from distmed.cases.case import Case
from distmed.cases.prompts import Prompt
from distmed.chatter import Chatter
from distmed.errors import DONE, INTERRUPTED, UserError
from distmed.evaluate.about import VERSION, about_data, about_model, about_prompt, versions
from distmed.evaluate.assembly import Other, Scored, diagnoses, exams
from distmed.evaluate.calibration_file import CALIBRATION, Calibration
from distmed.evaluate.figure import limits_to_read
from distmed.evaluate.integrity import rounded
from distmed.evaluate.labels import LabelSpace
from distmed.evaluate.loading import Opened, open_model
from distmed.evaluate.pool import Pool
from distmed.evaluate.progress import Progress
from distmed.evaluate.reading import Asked, Read, read_source, settle
from distmed.evaluate.report import write_report
from distmed.evaluate.sources import sources_of
from distmed.recipe import Cluster, Source
from distmed.signals import StopSignals

WORK, LOG = "parts", "log.txt"
LATENCY_CASES = 20
SHOWN = ("top1", "top3", "macro_f1", "balanced_accuracy", "auroc_macro", "ece", "ece_mass", "brier")


@dataclass(frozen=True)
class Request:
    """What a person asked for. `mapping`: a file from the data's labels to the model's; `small_cells`: show cells under 5;
    `with_text`: put what the model was told of each case into predictions.parquet; `columns`: ROLE=COLUMN of the tables."""

    model: str
    data: str
    out: Path
    format: str | None = None
    train: str | None = None
    calibration: str | None = None
    against: str | None = None
    num_workers: int = 1
    mapping: Path | None = None
    small_cells: bool = False
    overrides: tuple[str, ...] = ()
    with_text: bool = False
    columns: tuple[str, ...] = ()

    @property
    def sources(self) -> dict[str, Source]:
        """Those that are named. Raises UserError for words that make no source."""
        names = {"data": self.data, "train": self.train, "calibration": self.calibration}
        return sources_of(names, self.format, self.columns)


def evaluate(request: Request, *, verbose: bool = False) -> int:
    """Write the evidence for one model, or two side by side, into `request.out`; the exit status.

    Raises UserError for what the user can mend. Interrupted (130), it leaves what was scored, and goes on from there.
    """
    out, sources = request.out, request.sources
    made = not out.exists()
    try:
        out.mkdir(parents=True, exist_ok=True)
        (out / LOG).touch(0o600)
    except OSError as error:
        raise UserError(f"cannot write to {out}: {error.strerror}", "name another --out") from error
    with StopSignals() as signals, Chatter(out / LOG, show=verbose) as chatter, ExitStack() as stack:
        signals.hang_up = chatter.hang_up
        progress = Progress(chatter.terminal)
        try:
            _evaluate(request, sources, progress, stack, signals)
        except KeyboardInterrupt:
            progress.note("interrupted: the same command goes on from the cases that were scored")
            return INTERRUPTED
        except UserError:
            if made and {path.name for path in out.iterdir()} == {LOG}:
                shutil.rmtree(out)
            raise
    shutil.rmtree(out / WORK, ignore_errors=True)
    return DONE


def _evaluate(
    request: Request, sources: Mapping[str, Source], progress: Progress, stack: ExitStack, signals: StopSignals
) -> None:
    out, work = request.out, request.out / WORK

    # ------------------------------------------------------------------ open
    opened = open_model(request.model, work, list(request.overrides))
    against = open_model(request.against, work, list(request.overrides)) if request.against else None

    # ------------------------------------------------------------------ read
    progress.line("reading the cases")
    cache = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="distmed-")))
    read = {what: read_source(source, cache) for what, source in sources.items()}
    asked = settle(opened, read, request.mapping, out)

    # ------------------------------------------------------------------ score
    stack.enter_context(session.connected())
    signals.take()
    session.wait_for_room(Cluster(num_workers=request.num_workers))
    shots = read["train"].cases if "train" in read and asked.mode == "choice" else []
    pool_of = partial(Pool, work=work, workers=request.num_workers, progress=progress, shots=shots)
    other, about_other = _score_other(against, asked, read["data"].cases, pool_of) if against else (None, None)
    pool = stack.enter_context(pool_of(asked.opened))
    scored = _score(asked, read, pool, other, with_text=request.with_text)

    # ------------------------------------------------------------------ count
    progress.line("computing the figures")
    about = _about(asked, read, pool, about_other, request.small_cells)
    count = exams if asked.mode == "choice" else diagnoses
    metrics, learned = count(scored, about, out, small_cells=request.small_cells)
    metrics["labels"] = {"from": asked.labels_from, **metrics.get("labels", {})}
    metrics["notes"] += asked.notes
    if about["model"]["head"] == "untrained":
        metrics["notes"].insert(0, "The model's head is untrained: its answers are chance.")

    # ------------------------------------------------------------------ write
    _write(out / "metrics.json", rounded({"about": about, **metrics}))
    pool.time_alone(read["data"].cases[:LATENCY_CASES], mode=asked.mode)
    _write_speed(out / "speed.json", pool, request.num_workers)
    if learned is not None:
        _write(out / CALIBRATION, Calibration.of(asked.opened, learned).model_dump())
    report = write_report(out)
    _show(metrics, progress)
    progress.line(f"report   {report}")


def _score_other(
    against: Opened, asked: Asked, cases: list[Case], pool_of: Callable[[Opened], Pool]
) -> tuple[Other, dict[str, Any]]:
    """The second model's answers to the same cases, and what it is. Without labels of its own it gets those of the first."""
    if asked.mode == "diagnosis" and not against.labels:
        against = against.over(asked.opened.labels, asked.opened.label_names)
    with pool_of(against) as pool:
        table = pool.score(cases, "scoring with the other model", mode=asked.mode)
        space = LabelSpace(against.labels, against.label_names, asked.space.mapping)
        return (against.name, space, table), about_model(against, pool.facts())


def _score(asked: Asked, read: Mapping[str, Read], pool: Pool, other: Other | None, *, with_text: bool) -> Scored:
    cases, split = read["data"].cases, read.get("calibration")
    prompt = Prompt(asked.opened.task, asked.opened.recipe.data)
    return Scored(
        data=read["data"],
        table=pool.score(cases, "scoring", mode=asked.mode),
        space=asked.space,
        train=read.get("train"),
        calibration=split,
        calibration_table=pool.score(split.cases, "scoring the calibration split") if split else None,
        other=other,
        ask=lambda cases, doing, how: pool.score(cases, doing, mode=how),
        texts=[prompt.text(case) for case in cases] if with_text else None,
    )


def _about(
    asked: Asked, read: Mapping[str, Read], pool: Pool, against: dict[str, Any] | None, small_cells: bool
) -> dict[str, Any]:
    """The section `about`: what was evaluated, on what, in which words, with which versions."""
    facts = pool.facts()
    return {
        "version": VERSION,
        "kind": asked.mode,
        "model": about_model(asked.opened, facts),
        **{what: about_data(read[what]) if what in read else None for what in ("data", "train", "calibration")},
        "against": against,
        "prompt": about_prompt(asked.opened, facts["choice"]),
        "versions": versions(),
        "small_cells": small_cells,
    }


def _write(path: Path, values: Any) -> None:
    path.write_text(json.dumps(values, indent=1, ensure_ascii=False, allow_nan=False) + "\n", encoding="utf-8")


def _write_speed(path: Path, pool: Pool, workers: int) -> None:
    """Timings are apart, so that a second run gives the same metrics.json; units found on the disk count for nothing."""
    import numpy as np

    speed, facts = pool.speed, pool.facts()
    p50, p95 = np.percentile(speed.latencies, [50, 95]).tolist()
    seconds = speed.seconds or None
    _write(
        path,
        {
            "cases_per_s": speed.cases / seconds if seconds else None,
            "tokens_per_s": speed.tokens / seconds if seconds else None,
            "latency_p50_s": p50,
            "latency_p95_s": p95,
            "latency_n": len(speed.latencies),
            "device_peak_gib": facts["device_peak_gib"],
            "host_peak_gib": facts["host_peak_gib"],
            "workers": workers,
            "wall_s": speed.seconds,
            "device": facts["device"],
        },
    )


def _show(metrics: dict[str, Any], progress: Progress) -> None:
    for name in SHOWN:
        found = metrics.get(name)
        if found and found["value"] is not None:
            low, high = limits_to_read(found)
            around = f"  [{low:.3f}, {high:.3f}]" if low is not None else ""
            progress.line(f"{name:<18}{found['value']:.3f}{around}  n={found['n']}")
    for note in metrics["notes"]:
        progress.note(note)
