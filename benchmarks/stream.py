"""What the stream promises, measured on generated patients and on MedQuAD, beside `datasets` and mosaicml-streaming.

    python benchmarks/stream.py --work /tmp/stream --medquad medquad.jsonl --phenopackets train.jsonl --out benchmarks \
        [--mosaic-python PYTHON]

prints the table and writes it as a dated file. mosaicml-streaming needs an environment of its own (`pip install
mosaicml-streaming tokenizers`). Figures are kept in the work folder: --only measures some checks again, the table shows all.
Speed is tokens a second of CPU time on one core, medians over rounds in the order A B C A B C: a busy machine changes little.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import platform
import subprocess
import sys
from pathlib import Path
from statistics import median
from typing import Any

import stream_checks
import stream_data

HERE = Path(__file__).parent
CHECKS = {
    "exactly_once": ("exactly once, one order", "1–8 workers"),
    "resumes": ("exact resume", "20 places, the next 1,000 batches to the byte, state under 1 KiB"),
    "elastic": ("elastic resume", "stop on 4, resume on 2, 8, 3, 5, 1"),
    "scale": ("cheap", "first batch: no growth with position, hardly with size; under 1 GB"),
    "row_groups_read": ("reads", "at most 1.35 times on 2 to 16 workers"),
    "steady": ("steady", "flat over 10^6 rows"),
    "data_wait": ("data wait", "under 1 % of a step"),
    "fill": ("packing", "more than 0.95 full"),
}
# Which checks need the many rows of the generated set; MedQuAD is run on the others, too, phenopackets on one.
GENERATED_ONLY = {"scale", "row_groups_read", "steady"}
PATHS = ("floor", "ours", "cached", "counting", "datasets", "mosaic")
# (what, of what, at least): ratios of tokens a second of CPU time.
GOALS = [("ours", "floor", 1 / 1.25), ("cached", "floor", 10), ("ours", "datasets", 2), ("ours", "mosaic", 2)]


def main() -> None:
    options = _arguments()
    options.work.mkdir(parents=True, exist_ok=True)
    sets = stream_data.make(
        options.work, options.rows, {"medquad": options.medquad, "phenopackets": options.phenopackets}
    )
    kept = options.work / "figures.json"
    for check in options.only or [*CHECKS, "speed"]:
        for name in sets:
            if (check in GENERATED_ONLY and name != "generated") or (check != "fill" and name == "phenopackets"):
                continue
            if check == "speed":
                found: Any = _speed(options, name)
            else:
                arguments = [] if check == "scale" else [str(options.work), name]
                found = stream_checks.in_own_process(check, *arguments)
            print(check, name, found, file=sys.stderr, flush=True)
            kept.write_text(json.dumps({**_figures(kept), f"{check}/{name}": found}, indent=1))
    text = _report(_figures(kept), options)
    print(text)
    if options.out:
        (options.out / f"stream_{datetime.datetime.now(datetime.UTC):%Y-%m-%d}.md").write_text(text, encoding="utf-8")


def _figures(kept: Path) -> dict[str, Any]:
    return dict(json.loads(kept.read_text())) if kept.exists() else {}


def _speed(options: argparse.Namespace, name: str) -> dict[str, list[dict[str, float]]]:
    rates: dict[str, list[dict[str, float]]] = {path: [] for path in PATHS}
    paths = [path for path in PATHS if path != "mosaic" or options.mosaic_python]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}
    for _ in range(options.rounds):
        for path in paths:
            seconds = str(options.seconds)
            if path == "mosaic":
                weights = [str(weight) for weight in stream_data.WEIGHTS[name]]
                command = [options.mosaic_python, str(HERE / "stream_mosaic.py"), str(options.work), name, seconds]
                command += weights
            else:
                command = [sys.executable, str(HERE / "stream_speed.py"), path, str(options.work), name, seconds]
            result = subprocess.run(command, stdout=subprocess.PIPE, text=True, env=environment, check=True)
            rates[path].append(json.loads(result.stdout.splitlines()[-1]))
            print(name, path, rates[path][-1], file=sys.stderr, flush=True)
    return {path: runs for path, runs in rates.items() if runs}


def _report(figures: dict[str, Any], options: argparse.Namespace) -> str:
    rows = [
        (what, goal, name, found["said"], found["holds"])
        for check, (what, goal) in CHECKS.items()
        for name in stream_data.SHARES
        if (found := figures.get(f"{check}/{name}"))
    ]
    for name in stream_data.SHARES:
        rates = {
            path: median(run["tokens"] / run["cpu_s"] for run in runs)
            for path, runs in figures.get(f"speed/{name}", {}).items()
        }
        for what, beside, least in GOALS:
            if what in rates and beside in rates:
                ratio = rates[what] / rates[beside]
                said = f"{ratio:.2f} times ({rates[what]:,.0f} and {rates[beside]:,.0f} tokens/s)"
                rows.append((f"fast: {what} / {beside}", f"at least {least:.2g} times", name, said, ratio >= least))
        if "counting" in rates:
            rows.append(("the counting pass", "timed apart", name, f"{rates['counting']:,.0f} tokens/s", True))
    lines = [
        "# The stream: what must hold, measured",
        "",
        f"{datetime.datetime.now(datetime.UTC):%Y-%m-%d}, {os.cpu_count()} cores of {_cpu()}, Python "
        f"{platform.python_version()}, {_versions()}.",
        "",
        f"    python benchmarks/stream.py --work WORK --rows {options.rows} --medquad medquad.jsonl --phenopackets train.jsonl "
        "--mosaic-python PYTHON --out benchmarks",
        "",
        "Speed: tokens a second of CPU time, one core, medians. `floor`: bare pyarrow + tokenizers, in order. `ours`: mixture,",
        "shuffle, tokenise, pack, tensors. `cached`: the same from kept ids. The others as their documentation has it.",
        "",
        "| promise | goal | data | measured | holds |",
        "| --- | --- | --- | --- | --- |",
        *(f"| {a} | {b} | {c} | {d} | {'yes' if holds else '**no**'} |" for a, b, c, d, holds in rows),
        "",
    ]
    return "\n".join(lines)


def _cpu() -> str:
    from distmed.train.hardware import environment

    facts = environment()
    return f"an {facts['cpu']}, {facts['host_memory_gib']} GiB, {', '.join(facts['gpus']) or 'no GPU'}"


def _versions() -> str:
    from importlib.metadata import version

    return ", ".join(f"{name} {version(name)}" for name in ("pyarrow", "tokenizers", "datasets", "torch", "numpy"))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True, help="made once, kept: about 1 GB")
    parser.add_argument("--rows", type=int, default=200_000)
    parser.add_argument("--medquad", type=Path)
    parser.add_argument("--phenopackets", type=Path)
    parser.add_argument("--mosaic-python")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=6.0, help="of CPU time, for each speed")
    parser.add_argument("--only", nargs="*", choices=[*CHECKS, "speed"])
    parser.add_argument("--out", type=Path)
    return parser.parse_args()


if __name__ == "__main__":
    main()
