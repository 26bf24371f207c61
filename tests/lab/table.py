"""The table of faults as a dated page: `python -m tests.lab.table JUNIT_XML FIGURES OUT_FOLDER`.

What pytest found and the seconds that figures.py noted flow in; benchmarks/lab_DATE.md flows out.
"""

from __future__ import annotations

import datetime
import importlib.metadata
import json
import os
import statistics
import sys
import xml.etree.ElementTree as ElementTree
from collections import defaultdict
from pathlib import Path

from distmed.train.hardware import environment


def page(report: Path, figures: Path) -> str:
    """The page: versions, the seconds of each fault, and every test with its outcome."""
    versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in ("ray", "torch", "deepspeed"))
    facts = environment()
    seconds: dict[str, list[float]] = defaultdict(list)
    if figures.exists():
        for line in map(json.loads, figures.read_text().splitlines()):
            seconds[line["fault"]].append(line["seconds"])
    lines = [
        f"# The lab, {datetime.date.today().isoformat()}",
        "",
        f"`make lab`: all hosts are network namespaces of one machine, {facts['cpu']}, {os.cpu_count()} cores; {versions}.",
        "",
        "| fault | times | seconds to the next step, median | range |",
        "| --- | --- | --- | --- |",
    ]
    for fault, each in seconds.items():
        lines.append(f"| {fault} | {len(each)} | {statistics.median(each):.0f} | {min(each):.0f} to {max(each):.0f} |")
    lines += ["", "| what must hold | outcome | seconds |", "| --- | --- | --- |"]
    for case in ElementTree.parse(report).iter("testcase"):
        outcome = next((child.tag for child in case if child.tag in ("failure", "error", "skipped")), "held")
        name = case.attrib["name"].removeprefix("test_").replace("_", " ")
        lines.append(f"| {name} | {outcome} | {float(case.attrib['time']):.0f} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    report, figures, out = (Path(word) for word in sys.argv[1:4])
    path = out / f"lab_{datetime.date.today().isoformat()}.md"
    path.write_text(page(report, figures), encoding="utf-8")
    print(path)


if __name__ == "__main__":
    main()
