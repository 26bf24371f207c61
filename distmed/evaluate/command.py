"""`distmed evaluate`: reads top to bottom as what it does: open, read, score, count, write.

Names of models and sources flow in; predictions.parquet, metrics.json, speed.json and report.html flow out. What a user got
wrong is found before a model is loaded, as far as it can be.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from distmed.chatter import Chatter
from distmed.errors import UserError
from distmed.evaluate.evidence import Learned
from distmed.evaluate.loading import Opened
from distmed.evaluate.pool import Pool
from distmed.evaluate.progress import Progress
from distmed.evaluate.reading import Read

DONE, INTERRUPTED = 0, 130
WORK, LOG = "parts", "log.txt"
CALIBRATION = "calibration.json"
LATENCY_CASES = 20
SHOWN = ("top1", "top3", "macro_f1", "balanced_accuracy", "auroc_macro", "ece", "ece_mass", "brier")


@dataclass(frozen=True)
class Request:
    """What a person asked for. `mapping`: a file from the data's labels to the model's; `small_cells`: show cells under 5;
    `with_text`: put what the model was told of each case into predictions.parquet."""

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


def evaluate(request: Request, *, verbose: bool = False) -> int:
    """Write the evidence for one model, or two side by side, into `request.out`; the exit status.

    Raises UserError for what the user can mend. Interrupted (130), it leaves what was scored, and goes on from there.
    """
    out = request.out
    made = not out.exists()
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"cannot write to {out}: {error.strerror}", "name another --out") from error
    with Chatter(out / LOG, show=verbose) as chatter, ExitStack() as stack:
        progress = Progress(chatter.terminal)
        try:
            _evaluate(request, progress, stack)
        except KeyboardInterrupt:
            progress.note("interrupted: the same command goes on from the cases that were scored")
            return INTERRUPTED
        except UserError:
            if made and {path.name for path in out.iterdir()} == {LOG}:
                shutil.rmtree(out)
            raise
    shutil.rmtree(out / WORK, ignore_errors=True)
    return DONE


def _evaluate(request: Request, progress: Progress, stack: ExitStack) -> None:
    from distmed import session
    from distmed.cases.prompts import Prompt
    from distmed.evaluate.about import VERSION, about_data, about_model, about_prompt, versions
    from distmed.evaluate.assembly import Scored, diagnoses, exams
    from distmed.evaluate.integrity import rounded
    from distmed.evaluate.labels import LabelSpace, read_mapping
    from distmed.evaluate.loading import open_model
    from distmed.evaluate.reading import check_overlap, label_space, mode_of, read_source
    from distmed.evaluate.report import write_report
    from distmed.recipe import Cluster

    out, work, workers = request.out, request.out / WORK, request.num_workers

    # ------------------------------------------------------------------ open
    opened = open_model(request.model, work, list(request.overrides))
    against = open_model(request.against, work, list(request.overrides)) if request.against else None

    # ------------------------------------------------------------------ read
    progress.line("reading the cases")
    cache = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="distmed-")))
    names = {"data": request.data, "train": request.train, "calibration": request.calibration}
    read = {what: read_source(name, request.format, cache) for what, name in names.items() if name}
    data, train = read["data"], read.get("train")
    mode = mode_of(opened, data)
    if mode == "choice":
        _check_for_exam(request)
    opened, labels_from = label_space(opened, mode, data.cases, train.cases if train else [])
    space, note = LabelSpace(opened.labels, opened.label_names), None
    if mode == "diagnosis":
        mapping = read_mapping(request.mapping, space) if request.mapping else {}
        space = LabelSpace(opened.labels, opened.label_names, mapping)
        note = check_overlap(space, data, out)
    leak = _shared_groups(read)

    # ------------------------------------------------------------------ score
    prompt = Prompt(opened.task, opened.recipe.data)
    stack.enter_context(session.connected())
    session.wait_for_room(Cluster(num_workers=workers))
    shots = train.cases if train and mode == "choice" else []
    other, about_other = None, None
    if against is not None:
        against = against if against.labels or mode == "choice" else against.over(opened.labels, opened.label_names)
        with Pool(against, work, workers=workers, progress=progress, shots=shots) as pool:
            table = pool.score(data.cases, "scoring with the other model", mode=mode)
            other = (against.name, LabelSpace(against.labels, against.label_names, space.mapping), table)
            about_other = about_model(against, pool.facts())
    pool = stack.enter_context(Pool(opened, work, workers=workers, progress=progress, shots=shots))
    split = read.get("calibration") if mode == "diagnosis" else None
    scored = Scored(
        data=data,
        table=pool.score(data.cases, "scoring", mode=mode),
        space=space,
        train=train,
        calibration=split,
        calibration_table=pool.score(split.cases, "scoring the calibration split", mode=mode) if split else None,
        other=other,
        ask=lambda cases, doing, how: pool.score(cases, doing, mode=how),
        texts=[prompt.text(case) for case in data.cases] if request.with_text else None,
    )
    facts = pool.facts()

    # ------------------------------------------------------------------ count
    progress.line("computing the figures")
    about = {
        "version": VERSION,
        "kind": mode,
        "model": about_model(opened, facts),
        **{what: about_data(read[what]) if what in read else None for what in names},
        "against": about_other,
        "prompt": about_prompt(opened, facts["choice"]),
        "versions": versions(),
        "small_cells": request.small_cells,
    }
    learned = None
    if mode == "choice":
        metrics = exams(scored, about, out, small_cells=request.small_cells)
    else:
        metrics, learned = diagnoses(scored, about, out, small_cells=request.small_cells)
    metrics["labels"] = {"from": labels_from, **metrics.get("labels", {})}
    metrics["notes"] += [said for said in (note, leak) if said]
    if facts["head"] == "untrained":
        metrics["notes"].insert(0, "The model's head is untrained: its answers are chance.")

    # ------------------------------------------------------------------ write
    pool.time_alone(data.cases[:LATENCY_CASES], mode=mode)
    _write(out / "metrics.json", rounded({"about": about, **metrics}))
    _write_speed(out / "speed.json", pool, workers)
    if learned is not None:
        _write_calibration(out / CALIBRATION, opened, learned)
    report = write_report(out)
    _show(metrics, progress)
    progress.line(f"report   {report}")


def _check_for_exam(request: Request) -> None:
    """What has no meaning for exam questions is refused, not passed over."""
    for option, value in (("--calibration", request.calibration), ("--map", request.mapping)):
        if value is not None:
            raise UserError(
                f"{option} is for diagnoses, and {request.data} holds exam questions", f"leave {option} out"
            )


def _shared_groups(read: dict[str, Read]) -> str | None:
    """A note where papers or patients of the data are in the training split, too. For calibration that is refused: a threshold
    would be learned from what it is reported on."""
    groups = {case.group for case in read["data"].cases}
    shared = {what: len(groups & {case.group for case in of.cases}) for what, of in read.items() if what != "data"}
    if shared.get("calibration"):
        raise UserError(
            f"{shared['calibration']} groups (papers, patients) of --calibration are in --data, too",
            "split by group: name a calibration split of its own",
        )
    if shared.get("train"):
        return (
            f"{shared['train']} groups (papers, patients) of the data are in the training split, too: expect too much."
        )
    return None


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


def _write_calibration(path: Path, opened: Opened, learned: Learned) -> None:
    """What `distmed predict` needs to say how sure it is, when to abstain, and what a generator may answer."""
    space = {"labels": opened.labels, "label_names": opened.label_names}
    taught = {"temperature": learned.temperature, **learned.thresholds.to_dict()}
    _write(path, {"version": 1, "model": opened.hash, **taught, **space})


def _show(metrics: dict[str, Any], progress: Progress) -> None:
    for name in SHOWN:
        found = metrics.get(name)
        if found and found["value"] is not None:
            around = f"  [{found['low']:.3f}, {found['high']:.3f}]" if found["low"] is not None else ""
            progress.line(f"{name:<18}{found['value']:.3f}{around}  n={found['n']}")
    for note in metrics["notes"]:
        progress.note(note)
