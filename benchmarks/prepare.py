"""What `distmed prepare` takes, and how well it takes identifiers away.

    python benchmarks/prepare.py --work WORK --phenopackets train.jsonl --medquad medquad.jsonl

runs the command line on both (the second without what overlaps with every 50th of its own rows, as if that were an exam) and on
generated notes, small with all stages and large without de-identification, and scores the identifiers found in synthetic notes
with gold spans; --only measures some of these. Prints the tables and keeps them as a dated file. Memory is sampled ten times a
second: the proportional set size of all processes together, and the resident size of the largest.
"""

from __future__ import annotations

import argparse
import json
import random
import resource
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from dated import Dated

sys.path.insert(0, str(Path(__file__).parents[1]))

COLUMNS = ["--columns", "text=text", "--columns", "label=label", "--group-by", "patient"]
PARTS = ("phenopackets", "medquad", "notes", "large", "identifiers")
LEAKED = 50
"""Every so many rows of MedQuAD are its evaluation set, too."""


def main() -> None:
    options = _arguments()
    options.work.mkdir(parents=True, exist_ok=True)
    out = Dated("prepare", "`distmed prepare`: time, memory, de-identification")
    out.line(", ".join(f"{name} {version(name)}" for name in ("presidio-analyzer", "ftfy", "rensa", "pyarrow")) + "\n")
    jobs = {
        "phenopackets": lambda: phenopackets(options),
        "medquad": lambda: medquad(options),
        "notes": lambda: Job("generated notes", generated(options.work, options.mb * 2**20), COLUMNS),
        "large": lambda: Job(
            "generated notes, `--no-deidentify`",
            generated(options.work, int(options.gb * 2**30)),
            [*COLUMNS, "--no-deidentify"],
        ),
    }
    wanted = [name for name in jobs if name in options.only]
    if wanted:
        out.line(
            f"All stages are on unless the row says otherwise; processes: {options.num_workers}. Memory at its peak.\n"
        )
        out.table(
            "source", "MB", "rows", "cases written", "wall", "rows/s", "MB/s", "CPU", "all processes", "the largest"
        )
        for name in wanted:
            out.row(*measured(jobs[name](), options.work / name, options.num_workers))
    if "medquad" in wanted:
        out.line(f"\n{overlaps(options)}")
    if "identifiers" in options.only:
        identifiers(out)


@dataclass
class Job:
    """A source, and what the command line says of it."""

    name: str
    source: Path
    arguments: list[str]


def phenopackets(options: argparse.Namespace) -> Job:
    return Job("phenopackets", options.phenopackets, ["--format", "phenopackets", "--group-by", "pmid"])


def medquad(options: argparse.Namespace) -> Job:
    lines = options.medquad.read_text(encoding="utf-8").splitlines(keepends=True)
    exam = options.work / "exam.jsonl"
    exam.write_text("".join(lines[::LEAKED]), encoding="utf-8")
    return Job(
        f"MedQuAD, `--no-deidentify`, `--without` {len(lines[::LEAKED])} of its rows",
        options.medquad,
        ["--format", "medquad", "--no-deidentify", "--without", str(exam)],
    )


def overlaps(options: argparse.Namespace) -> str:
    """What became of the rows that the evaluation set holds, too."""
    from distmed.cases.read import read_cases
    from distmed.prepare.manifest import Manifest
    from distmed.prepare.shards import read_cases_of
    from distmed.prepare.wording import folded, wording
    from distmed.recipe import Source

    folder = options.work / "medquad"
    dropped = json.loads((folder / "report.json").read_text())["dropped"]
    listed = (folder / "overlaps.jsonl").read_text(encoding="utf-8").splitlines()
    exam = {
        folded(wording(case)) for case in read_cases(Source(source=str(options.work / "exam.jsonl"), format="medquad"))
    }
    left = [case.id for case in read_cases_of(Manifest.read(folder)) if folded(wording(case)) in exam]
    return (
        f"MedQuAD: dropped {json.dumps(dropped)}; {len(listed):,} lines in overlaps.jsonl. Of the {len(exam):,} different "
        f"questions with answers in the evaluation set {len(left)} are left in what was written."
    )


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


def measured(job: Job, out: Path, processes: int) -> list[str]:
    """One run through the command line, as a row of the table."""
    shutil.rmtree(out, ignore_errors=True)
    command = [sys.executable, "-m", "distmed", "prepare", str(job.source), *job.arguments]
    command += ["--num-workers", str(processes), "--out", str(out)]
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
    size, rows = job.source.stat().st_size / 1e6, report["rows"]
    return [
        job.name,
        f"{size:,.1f}",
        f"{rows:,}",
        f"{written:,}",
        f"{wall:.1f} s",
        f"{rows / wall:,.0f}",
        f"{size / wall:.2f}",
        f"{cpu:.1f} s",
        f"{together / 2**10:.0f} MiB",
        f"{largest / 2**10:.0f} MiB",
    ]


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


def identifiers(out: Dated, notes: int = 390) -> None:
    """Recall and precision by type."""
    from distmed.prepare.deidentify import names_of, with_names
    from distmed.prepare.recognizers import Analyzer
    from tests.prepare.gold import Scores
    from tests.prepare.notes import write_note

    analyzer, scores = Analyzer(), Scores()
    for seed in range(notes):
        gold = write_note(seed)
        spans = analyzer.spans(gold.text)
        scores.add(gold, with_names(gold.text, spans, names_of(gold.text, spans)))
    out.line(
        f"\n{notes} notes with gold spans (tests/prepare/notes.py). Recall: all letters and digits of a span were replaced."
    )
    out.line("Precision: what was replaced is of that type.\n")
    out.table("type", "gold spans", "recall", "precision")
    for kind in sorted(scores.gold):
        spans, replaced = scores.gold[kind], max(1, scores.replaced[kind])
        out.row(kind, spans, f"{scores.recalled[kind] / spans:.4f}", f"{scores.right[kind] / replaced:.4f}")
    out.row("all", f"{scores.gold.total():,}", f"{scores.recall:.4f}", f"{scores.precision:.4f}")
    out.line(f"\nFalse hits: {scores.false_tokens} of {scores.clinical_tokens:,} clinical tokens.")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True, help="generated sources are kept there")
    parser.add_argument("--phenopackets", type=Path)
    parser.add_argument("--medquad", type=Path)
    parser.add_argument("--mb", type=int, default=10, help="size of the generated notes of which identifiers are taken")
    parser.add_argument("--gb", type=float, default=1.0, help="size of the generated notes without that stage")
    parser.add_argument("--num-workers", type=int, default=2)
    parser.add_argument("--only", nargs="+", choices=PARTS, default=PARTS)
    return parser.parse_args()


if __name__ == "__main__":
    main()
