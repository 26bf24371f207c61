"""What the stream promises, measured on generated patients and on MedQuAD, beside `datasets` and mosaicml-streaming.

    python benchmarks/stream.py --work /tmp/stream --medquad medquad.jsonl --phenopackets train.jsonl --out benchmarks \
        [--mosaic-python PYTHON]

prints the table and writes it as a dated file. mosaicml-streaming needs an environment of its own (`pip install
mosaicml-streaming tokenizers`). Figures are kept in the work folder: --only measures some checks again, the table shows all.
Speed is tokens a second of CPU time on one core, in turns of half a second: a busy machine changes little, nor one that drifts.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import platform
import sys
from pathlib import Path
from typing import Any

import stream_checks
import stream_data
from stream_slices import Slice, in_turn

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
            print(check, name, "measured", file=sys.stderr, flush=True)
            kept.write_text(json.dumps({**_figures(kept), f"{check}/{name}": found}, indent=1))
    text = _report(_figures(kept), options)
    print(text)
    if options.out:
        (options.out / f"stream_{datetime.datetime.now(datetime.UTC):%Y-%m-%d}.md").write_text(text, encoding="utf-8")


def _figures(kept: Path) -> dict[str, Any]:
    return dict(json.loads(kept.read_text())) if kept.exists() else {}


def _speed(options: argparse.Namespace, name: str) -> dict[str, list[Slice]]:
    commands = {
        path: [sys.executable, str(HERE / "stream_speed.py"), path, str(options.work), name]
        for path in PATHS
        if path != "mosaic"
    }
    if options.mosaic_python:
        weights = [str(weight) for weight in stream_data.WEIGHTS[name]]
        mosaic = [options.mosaic_python, str(HERE / "stream_mosaic.py"), str(options.work), name, *weights]
        commands["mosaic"] = mosaic
    return in_turn(commands, options.rounds, options.seconds)


def _rate(slices: list[Slice]) -> float:
    """Tokens a second of CPU time over all slices: a stream works in bursts, so single ones say little."""
    return sum(each["tokens"] for each in slices) / sum(each["cpu_s"] for each in slices)


def _ratios(ours: list[Slice], theirs: list[Slice]) -> list[float]:
    """Of all slices, then of each third of them."""
    third = len(ours) // 3
    parts = [slice(0, len(ours)), *(slice(at, at + third) for at in range(0, 3 * third, third))]
    return [_rate(ours[part]) / _rate(theirs[part]) for part in parts]


def _report(figures: dict[str, Any], options: argparse.Namespace) -> str:
    rows = [
        (what, goal, name, found["said"], found["holds"])
        for check, (what, goal) in CHECKS.items()
        for name in stream_data.SHARES
        if (found := figures.get(f"{check}/{name}"))
    ]
    for name in stream_data.SHARES:
        slices: dict[str, list[Slice]] = figures.get(f"speed/{name}", {})
        for what, beside, least in GOALS:
            if what in slices and beside in slices:
                ratio, *thirds = _ratios(slices[what], slices[beside])
                said = (
                    f"{ratio:.2f} times ({_rate(slices[what]):,.0f} and {_rate(slices[beside]):,.0f} tokens/s; "
                    f"thirds {', '.join(f'{each:.2f}' for each in thirds)})"
                )
                rows.append((f"fast: {what} / {beside}", f"at least {least:.2g} times", name, said, ratio >= least))
        if "counting" in slices:
            rows.append(("the counting pass", "timed apart", name, f"{_rate(slices['counting']):,.0f} tokens/s", True))
    lines = [
        "# The stream: what must hold, measured",
        "",
        f"{datetime.datetime.now(datetime.UTC):%Y-%m-%d}, {os.cpu_count()} cores of {_cpu()}, Python "
        f"{platform.python_version()}, {_versions()}.",
        "",
        f"    python benchmarks/stream.py --work WORK --rows {options.rows} --medquad medquad.jsonl --phenopackets train.jsonl "
        "--mosaic-python PYTHON --out benchmarks",
        "",
        "Speed: tokens a second of CPU time, one core, in turns of half a second. `floor`: bare pyarrow + tokenizers, in",
        "order. `ours`: mixture, shuffle, tokenise, pack, tensors. `cached`: the same from kept ids. The others as their",
        "documentation has it. Ratios of all turns, then of each third of them.",
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
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--seconds", type=float, default=0.5, help="of CPU time, for each turn")
    parser.add_argument("--only", nargs="*", choices=[*CHECKS, "speed"])
    parser.add_argument("--out", type=Path)
    return parser.parse_args()


if __name__ == "__main__":
    main()
