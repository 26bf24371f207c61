"""What a search is worth, and what it costs: `python benchmarks/tune.py simulated` and `… overhead RECIPE [key=value …]`.

`simulated`: 50 seeds of a formula's learning curves; TPE + ASHA against random search at the same budget of steps, and ASHA
against a full search. `overhead`: two identical trials, one at a time, beside `distmed train` of the same recipe, alone.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import yaml

sys.path.insert(0, str(Path(__file__).parents[1]))
from distmed.recipe import load_recipe
from tests.tune.simulated import STEPS, recipe_with, search

SEEDS = 50


def simulated() -> None:
    wins, shares, losses = 0, [], []
    with tempfile.TemporaryDirectory() as folder:
        folders = {name: Path(folder) / name for name in ("tpe", "random", "full", "asha")}
        for path in folders.values():
            path.mkdir()
        random = {"search": "random", "scheduler": "none"}
        for seed in range(SEEDS):
            tpe = search(recipe_with(trials=200), folders["tpe"], seed=seed, budget=20 * STEPS)
            plain = search(recipe_with(trials=200, **random), folders["random"], seed=seed, budget=20 * STEPS)
            wins += tpe.best > plain.best
            full = search(recipe_with(trials=30, **random), folders["full"], seed=seed)
            asha = search(recipe_with(trials=30, search="random"), folders["asha"], seed=seed)
            shares.append(asha.steps / full.steps)
            losses.append(full.best - asha.best)
    print(f"TPE + ASHA better than random search at {20 * STEPS} steps: {wins} of {SEEDS} seeds")
    print(f"ASHA: {statistics.fmean(shares):.1%} of the steps (worst seed {max(shares):.1%}), ", end="")
    print(f"within 0.01 of the full search in {sum(loss <= 0.01 for loss in losses)} of {SEEDS} seeds")


def overhead(recipe: str, overrides: list[str]) -> None:
    """Steps/s of the last trial against `train` alone, and the pause between two trials against the start of `train`."""
    values = load_recipe(recipe, overrides).model_dump(mode="json")
    with tempfile.TemporaryDirectory() as folder:
        twice = {"optimizer.lr": {"choice": [values["optimizer"]["lr"]]}}
        block = {"trials": 2, "concurrency": 1, "scheduler": "none", "search": "random", "space": twice}
        _run(folder, "tune", {**values, "name": "search", "tune": block})
        _run(folder, "train", {**values, "name": "alone", "tune": None})
        runs = Path(folder) / "runs"
        events = [json.loads(line) for line in (runs / "search" / "search.jsonl").read_text().splitlines()]
        ends = [event["time"] for event in events if event["event"] == "end"]
        firsts = [event["time"] for event in events if event["event"] == "evaluation" and event["trial"] == 1]
        last_trial = _speed(runs / "search" / "trials" / "00001")
        alone = _speed(runs / "alone")
        print(f"tokens/s: trial {last_trial:.0f}, train alone {alone:.0f}, ratio {last_trial / alone:.3f}")
        print(f"from the end of trial 0 to the first evaluation of trial 1: {firsts[0] - ends[0]:.1f} s")
        summary = json.loads((runs / "alone" / "summary.json").read_text())
        print(
            f"train alone: {summary['wall_s']:.1f} s for {summary['steps']} steps, first {summary['warm_up_s']} s warm-up"
        )


def _speed(run: Path) -> float:
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return statistics.median([line["perf/tokens_per_s"] for line in lines if "perf/tokens_per_s" in line][2:])


def _run(folder: str, verb: str, values: dict[str, Any]) -> None:
    path = Path(folder) / f"{verb}.yaml"
    path.write_text(yaml.safe_dump(values))
    subprocess.run([sys.executable, "-m", "distmed", verb, str(path)], cwd=folder, check=True)


if __name__ == "__main__":
    if sys.argv[1:] == ["simulated"]:
        simulated()
    elif sys.argv[1:2] == ["overhead"] and len(sys.argv) > 2:
        overhead(sys.argv[2], sys.argv[3:])
    else:
        sys.exit(__doc__)
