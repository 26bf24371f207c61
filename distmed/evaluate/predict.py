"""`distmed predict`: the likeliest diagnoses of cases without a label, how sure, and when to abstain.

A model, a source and perhaps the calibration of an earlier evaluation flow in; one row a case flows out.
"""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from distmed.cases.case import Case
from distmed.chatter import Chatter
from distmed.errors import DONE, INTERRUPTED, UserError, one_of
from distmed.evaluate.calibration_file import Calibration
from distmed.evaluate.loading import Opened, open_model
from distmed.evaluate.pool import Pool
from distmed.evaluate.progress import Progress
from distmed.evaluate.sources import sources_of
from distmed.recipe import Source
from distmed.signals import StopSignals

if TYPE_CHECKING:
    import pyarrow as pa

ENDINGS = (".parquet", ".jsonl", ".csv")
TOP = 5
LOG = "log.txt"


def predict(
    model: str,
    data: str,
    out: Path,
    *,
    format: str | None,
    columns: Sequence[str],
    calibration: Path | None,
    workers: int,
    verbose: bool,
) -> int:
    """Write the first five diagnoses of every case, with probabilities, into `out`; by its ending Parquet, JSON lines or CSV.

    `columns`: ROLE=COLUMN of a raw table. With a calibration, probabilities are after its temperature, and `abstain` is true
    below its threshold. The exit status. Raises UserError.
    """
    if out.suffix.lower() not in ENDINGS:
        raise UserError(f"cannot tell what to write into {out}", f"known endings: {one_of(list(ENDINGS))}")
    source = sources_of({"data": data}, format, columns, labeled=False)["data"]
    work = out.with_name(f".{out.name}.parts")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        work.mkdir(exist_ok=True)
    except OSError as error:
        raise UserError(f"cannot write to {out.parent}: {error.strerror}", "name another --out") from error
    with StopSignals() as signals, Chatter(work / LOG, show=verbose) as chatter, ExitStack() as stack:
        signals.hang_up = chatter.hang_up
        progress = Progress(chatter.terminal)
        try:
            _predict(model, source, out, calibration, workers, work, progress, stack, signals)
        except KeyboardInterrupt:
            progress.note("interrupted: the same command goes on from the cases that were scored")
            return INTERRUPTED
        except UserError:
            if {path.name for path in work.iterdir()} == {LOG}:
                shutil.rmtree(work)
            raise
    shutil.rmtree(work, ignore_errors=True)
    return DONE


def _predict(
    model: str,
    source: Source,
    out: Path,
    calibration: Path | None,
    workers: int,
    work: Path,
    progress: Progress,
    stack: ExitStack,
    signals: StopSignals,
) -> None:
    from distmed import session
    from distmed.recipe import Cluster

    opened = open_model(model, work)
    learned = None if calibration is None else Calibration.read(calibration, opened)
    if not opened.labels:
        opened = _over_evaluated(opened, learned)
    cases, dropped = _cases(source)
    stack.enter_context(session.connected())
    signals.take()
    session.wait_for_room(Cluster(num_workers=workers))
    pool = stack.enter_context(Pool(opened, work, workers=workers, progress=progress))
    _write(out, rows(cases, pool.score(cases, "diagnosing"), opened, learned))
    progress.line(f"{out}: {len(cases)} cases")
    for rule, count in sorted(dropped.items()):
        progress.note(f"{count} rows have no answer here: {rule}")
    if learned is None:
        progress.note("probabilities are as the model gives them: --calibration names an evaluation that mends them")


def rows(cases: list[Case], table: pa.Table, opened: Opened, learned: Calibration | None) -> list[dict[str, Any]]:
    """One dict a case: id, diagnosis, confidence, abstain (None where no threshold was learned) and the first five."""
    from distmed.evaluate.calibration import scale

    flat = table["scores"].combine_chunks().flatten().to_numpy()
    raw_NK = flat.reshape(len(cases), len(opened.labels))
    shown_NK = raw_NK if learned is None else scale(raw_NK, learned.temperature)
    limit = None if learned is None else learned.risk_5 if learned.risk_5 is not None else np.inf
    found = []
    for case, raw_K, shown_K, cut in zip(cases, raw_NK, shown_NK, table["cut"].to_pylist(), strict=True):
        order = np.argsort(-shown_K, kind="stable")[:TOP].tolist()
        top = [
            {"label": opened.labels[k], "name": opened.label_names[k], "probability": float(shown_K[k])} for k in order
        ]
        found.append(
            {
                "case_id": case.id,
                "predicted": top[0]["label"],
                "name": top[0]["name"],
                "confidence": top[0]["probability"],
                "abstain": None if limit is None else bool(raw_K.max() < limit),
                "cut": bool(cut),
                "top": top,
            }
        )
    return found


def _cases(source: Source) -> tuple[list[Case], dict[str, int]]:
    """The cases, and how many rows were left out by which rule."""
    from distmed.cases.read import CaseReader
    from distmed.evaluate.integrity import check_ids
    from distmed.prepare.manifest import Manifest
    from distmed.prepare.open import prepared_folder
    from distmed.prepare.shards import read_cases_of

    folder = prepared_folder(source.source)
    if folder is not None:
        cases, dropped = list(read_cases_of(Manifest.read(folder))), {}
    else:
        reader = CaseReader(source, labels="optional")
        cases, dropped = list(reader), dict(reader.dropped)
    check_ids(cases, source.source)
    return cases, dropped


def _over_evaluated(opened: Opened, learned: Calibration | None) -> Opened:
    """A generator has no diagnoses of its own: it chooses among those that the evaluation scored."""
    if opened.task == "classify":
        raise UserError(f"{opened.name} has no diagnoses to choose from", "name a classifier that was trained on some")
    if learned is None:
        raise UserError(
            f"{opened.name} writes text and has no diagnoses of its own to choose from",
            "name them by --calibration: the folder of `distmed evaluate … --calibration SPLIT` of this model",
        )
    return opened.over(learned.labels, learned.label_names)


def _write(out: Path, found: list[dict[str, Any]]) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    out.touch(0o600)
    if out.suffix.lower() == ".parquet":
        pq.write_table(pa.Table.from_pylist(found), out, compression="zstd")
    elif out.suffix.lower() == ".jsonl":
        out.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in found), encoding="utf-8")
    else:
        with out.open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file)
            head = ["case_id", "predicted", "name", "confidence", "abstain", "cut"]
            writer.writerow([*head, *(f"{what}_{n}" for n in range(1, TOP + 1) for what in ("label", "probability"))])
            for row in found:
                top = [value for each in row["top"] for value in (each["label"], each["probability"])]
                writer.writerow([*(row[name] for name in head), *top])
