"""Report: one self-contained page of the evidence, for a reader who is no programmer.

A folder with metrics.json (and predictions.parquet, speed.json where they are) flows in, its report.html flows out: no script,
font or image from elsewhere, so that it can be mailed, archived and read without a network.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from distmed.errors import UserError

NAME = "report.html"


def write_report(folder: Path) -> Path:
    """Write folder/report.html; the same files give the same page. Raises UserError where metrics.json is missing or broken."""
    from distmed.evaluate.report.page import render

    metrics = _read(folder / "metrics.json")
    if metrics is None:
        raise UserError(f"{folder} has no metrics.json", "name a folder that `distmed evaluate` wrote")
    page = render(metrics, _read(folder / "speed.json"), _confident_errors(folder, metrics))
    path = folder / NAME
    part = path.with_suffix(".partial")
    part.write_text(page, encoding="utf-8")
    part.replace(path)
    return path


def _read(path: Path) -> dict[str, Any] | None:
    if not path.is_file():
        return None
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise UserError(f"{path} is no JSON", "run `distmed evaluate` again") from error
    if not isinstance(values, dict) or (path.name == "metrics.json" and "about" not in values):
        raise UserError(f"{path} is not what `distmed evaluate` writes", "run `distmed evaluate` again")
    return values


def _confident_errors(folder: Path, metrics: dict[str, Any]) -> list[dict[str, Any]]:
    """The surest wrong answers, by hashed id. Single patients are shown only where small cells were asked for."""
    path = folder / "predictions.parquet"
    if not metrics["about"].get("small_cells") or not path.is_file():
        return []
    import pyarrow.parquet as pq

    from distmed.evaluate.figure import hashed
    from distmed.evaluate.labels import LabelSpace

    table = pq.read_table(path, columns=["case_id", "gold", "predicted", "confidence"])
    space = LabelSpace(*(json.loads(table.schema.metadata[key]) for key in (b"labels", b"label_names")))

    def right(row: dict[str, Any]) -> bool:
        """Of several diagnoses any one will do."""
        return row["gold"] == row["predicted"] or row["predicted"] in (
            space.labels[k] for k in space.meaning(row["gold"], None).classes if k >= 0
        )

    wrong = [row for row in table.to_pylist() if row["gold"] is not None and not right(row)]
    wrong.sort(key=lambda row: (-(row["confidence"] or 0), row["case_id"]))
    names = metrics.get("labels", {}).get("names", {})
    return [
        {
            "case": hashed(row["case_id"]),
            "gold": names.get(row["gold"], row["gold"]),
            "predicted": names.get(row["predicted"], row["predicted"]),
            "confidence": row["confidence"],
        }
        for row in wrong[:15]
    ]
