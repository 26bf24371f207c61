"""What `distmed prepare` takes, and how well it takes identifiers away.

    python benchmarks/prepare.py --work WORK --phenopackets train.jsonl --medquad medquad.jsonl --exam mmlu.csv --out benchmarks

runs the command line on both (the second without what overlaps with an exam in the format `mmlu`) and on generated notes, and
scores the de-identification on synthetic notes with gold spans; it prints the tables and writes them as a dated file. Memory
is sampled ten times a second: the proportional set size of all processes together, and the resident size of the largest.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import platform
import random
import resource
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

COLUMNS = ["--columns", "text=text", "--columns", "label=label"]


def main() -> None:
    options = _arguments()
    options.work.mkdir(parents=True, exist_ok=True)
    jobs: dict[str, tuple[Path, list[str]]] = {}
    if options.phenopackets:
        jobs["phenopackets, `--group-by pmid`"] = (
            options.phenopackets,
            ["--format", "phenopackets", "--group-by", "pmid"],
        )
    if options.medquad and options.exam:
        more = ["--format", "medquad", "--without", str(options.exam), "--without-format", "mmlu"]
        jobs["MedQuAD, `--without` an exam"] = (options.medquad, more)
    jobs["generated notes"] = (generated(options.work, options.mb * 2**20), [*COLUMNS, "--group-by", "patient"])
    large = generated(options.work, int(options.gb * 2**30))
    jobs["generated notes, `--no-deidentify`"] = (large, [*COLUMNS, "--group-by", "patient", "--no-deidentify"])
    lines = [
        "| source | MB | rows | cases written | wall | MB/s | CPU | all processes | the largest |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for name, (source, arguments) in jobs.items():
        lines.append(measured(name, source, arguments, options.work / "out"))
        print(lines[-1], file=sys.stderr, flush=True)
    text = "\n".join(
        [
            "# `distmed prepare`: time, memory, de-identification",
            "",
            f"{datetime.datetime.now(datetime.UTC):%Y-%m-%d}, {platform.machine()}, {os.cpu_count()} cores, Python "
            f"{platform.python_version()}, {_versions()}.",
            "",
            "    python benchmarks/prepare.py --work WORK --phenopackets train.jsonl --medquad medquad.jsonl --exam mmlu.csv "
            f"--mb {options.mb} --gb {options.gb} --out benchmarks",
            "",
            "All stages are on unless the row says otherwise; two processes. Memory at its peak.",
            "",
            *lines,
            "",
            "360 notes with gold spans (tests/prepare/notes.py). Recall: all letters and digits of a span were replaced.",
            "Precision: what was replaced is of that type.",
            "",
            *deidentification(),
            "",
        ]
    )
    print(text)
    if options.out:
        (options.out / f"prepare_{datetime.datetime.now(datetime.UTC):%Y-%m-%d}.md").write_text(text, encoding="utf-8")


def generated(work: Path, size: int) -> Path:
    """Notes of about 3,000 characters, each put together of lines of many synthetic notes, so that none is like another."""
    from tests.prepare.notes import write_note

    path = work / f"notes-{size >> 20}.jsonl"
    if path.exists():
        return path
    lines = [line for seed in range(3000) for line in write_note(seed).text.splitlines() if len(line) > 20]
    draw, written, number = random.Random(1), 0, 0
    part = path.with_suffix(".part")
    with part.open("w", encoding="utf-8") as file:
        while written < size:
            text = "\n".join(draw.choices(lines, k=40))
            row = {"text": text, "label": f"D{number % 50}", "patient": f"P{number // 3}"}
            written += file.write(json.dumps(row) + "\n")
            number += 1
    part.rename(path)
    return path


def measured(name: str, source: Path, arguments: list[str], out: Path) -> str:
    """One run through the command line, as a row of the table."""
    shutil.rmtree(out, ignore_errors=True)
    command = [
        sys.executable,
        "-m",
        "distmed",
        "prepare",
        str(source),
        *arguments,
        "--num-workers",
        "2",
        "--out",
        str(out),
    ]
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    started = time.perf_counter()
    run = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    together = largest = 0
    while run.poll() is None:
        sizes = list(_memory_of(run.pid))
        together = max(together, sum(pss for pss, _ in sizes))
        largest = max([largest, *(rss for _, rss in sizes)])
        time.sleep(0.1)
    wall = time.perf_counter() - started
    if run.returncode:
        raise SystemExit(f"{' '.join(command)} ended with status {run.returncode}")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    report = json.loads((out / "report.json").read_text())
    written = sum(split["rows"] for split in report["splits"].values())
    size = source.stat().st_size / 1e6
    return (
        f"| {name} | {size:,.1f} | {report['rows']:,} | {written:,} | {wall:.1f} s | {size / wall:.2f} | {cpu:.1f} s "
        f"| {together / 2**10:.0f} MiB | {largest / 2**10:.0f} MiB |"
    )


def _memory_of(pid: int) -> Iterator[tuple[int, int]]:
    """(proportional, resident) KiB of a process and of all below it."""
    try:
        rollup = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
        sizes = {line.split(":")[0]: int(line.split()[1]) for line in rollup[1:]}
        children = [
            child for path in Path(f"/proc/{pid}/task").glob("*/children") for child in path.read_text().split()
        ]
        yield sizes["Pss"], sizes["Rss"]
    except (OSError, KeyError, IndexError):
        return  # it ended meanwhile
    for child in children:
        yield from _memory_of(int(child))


def deidentification(notes: int = 360) -> list[str]:
    """Recall and precision by type."""
    from distmed.prepare.deidentify import with_names
    from distmed.prepare.recognizers import Analyzer
    from tests.prepare.gold import Scores
    from tests.prepare.notes import write_note

    analyzer, scores = Analyzer(), Scores()
    for seed in range(notes):
        gold = write_note(seed)
        spans = analyzer.spans(gold.text)
        names = {gold.text[span.start : span.end] for span in spans if span.kind == "NAME"}
        scores.add(gold, with_names(gold.text, spans, names))
    rows = ["| type | gold spans | recall | precision |", "| --- | --- | --- | --- |"]
    for kind in sorted(scores.gold):
        gold_spans, replaced = scores.gold[kind], max(1, scores.replaced[kind])
        rows.append(
            f"| {kind} | {gold_spans} | {scores.recalled[kind] / gold_spans:.4f} | {scores.right[kind] / replaced:.4f} |"
        )
    rows.append(f"| all | {scores.gold.total():,} | {scores.recall:.4f} | {scores.precision:.4f} |")
    return [*rows, "", f"False hits: {scores.false_tokens} of {scores.clinical_tokens:,} clinical tokens."]


def _versions() -> str:
    from importlib.metadata import version

    return ", ".join(f"{name} {version(name)}" for name in ("presidio-analyzer", "ftfy", "rensa", "pyarrow"))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True, help="generated sources are kept there")
    parser.add_argument("--phenopackets", type=Path)
    parser.add_argument("--medquad", type=Path)
    parser.add_argument("--exam", type=Path, help="in the format mmlu")
    parser.add_argument("--mb", type=int, default=10, help="size of the generated notes of which identifiers are taken")
    parser.add_argument("--gb", type=float, default=1.5, help="size of the generated notes without that stage")
    parser.add_argument("--out", type=Path)
    return parser.parse_args()


if __name__ == "__main__":
    main()
