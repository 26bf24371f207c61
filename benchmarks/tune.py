"""What a search is worth, and what it costs: `python benchmarks/tune.py simulated` and `… overhead RECIPE [key=value …]`.

`simulated`: 50 seeds of a formula's learning curves; TPE + ASHA against random search at the same budget of steps, and ASHA
against a full search. `overhead`: `distmed train` alone and a search of two identical trials, one at a time, in turn. What is
measured is printed, and kept beside this file under today's date.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml
from dated import Dated

sys.path.insert(0, str(Path(__file__).parents[1]))
from distmed.recipe_file import load_recipe
from tests.tune.simulated import STEPS, recipe_with, search

SEEDS = 50
ROUNDS = 3


def simulated(file: Dated) -> None:
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
    near = sum(loss <= 0.01 for loss in losses)
    file.line(
        "Learning curves from a formula: one good region of the learning rate, weaker optima of three more knobs, noise.\n"
    )
    file.table("promise", "measured")
    file.row(f"TPE + ASHA better than random search at the same {20 * STEPS} steps", f"{wins} of {SEEDS} seeds")
    file.row(
        "ASHA's share of the steps of a full search of 30 trials",
        f"{statistics.fmean(shares):.1%}, at most {max(shares):.1%}",
    )
    file.row("its best metric within 0.01 of the full search's", f"{near} of {SEEDS} seeds")


def overhead(file: Dated, recipe: str, overrides: list[str]) -> None:
    """`distmed train` alone, a search of two identical trials, and a bare Ray Train worker, in turn."""
    values = load_recipe(recipe, overrides).model_dump(mode="json")
    values["train"] |= {"log_every": 1, "linear_floor": False}
    lr = values["optimizer"]["lr"]
    same = {"space": {"optimizer.lr": {"choice": [lr]}}, "initial": [{"optimizer.lr": lr}]}
    block = {"trials": 2, "concurrency": 1, "scheduler": "none", "search": "random", **same}
    alone, trials, gaps, bare = [], [], [], []
    with tempfile.TemporaryDirectory() as folder:
        runs = Path(folder) / "runs"
        for turn in range(ROUNDS):
            name = f"search-{turn}"
            _run(folder, "train", {**values, "name": f"alone-{turn}", "tune": None})
            alone.append(_speed(runs / f"alone-{turn}"))
            both = [runs / name / "trials" / f"0000{number}" for number in range(2)]
            searched = {**values, "name": name, "tune": block, "data": {**values["data"], "test": []}}
            firsts = _run(folder, "tune", searched, both)
            trials += [_speed(trial) for trial in both]
            events = [json.loads(line) for line in (runs / name / "search.jsonl").read_text().splitlines()]
            gaps.append(firsts[1] - next(event["time"] for event in events if event["event"] == "end"))
            bare.append(_bare_start())
    file.table("what", "measured")
    file.row("steps/s, `distmed train` alone", _listed(alone, 3))
    file.row("steps/s, two trials after each", _listed(trials, 3))
    file.row("ratio of the medians", f"{statistics.median(trials) / statistics.median(alone):.3f}")
    file.row("s from the end of a trial to the end of the next one's first step", _listed(gaps, 1))
    file.row("s from fit() of a bare worker to its loop", _listed([started for started, _ in bare], 1))
    file.row("the same, with its imports", _listed([imported for _, imported in bare], 1))
    beyond = [gap - started for gap, (started, _) in zip(gaps, bare, strict=True)]
    file.row("s beyond a bare worker, median", f"{_listed(beyond, 1)}: {statistics.median(beyond):.1f}")


def _listed(values: list[float], digits: int) -> str:
    return ", ".join(f"{value:.{digits}f}" for value in values)


def _speed(run: Path) -> float:
    """Steps/s, from the median step; the first three are warm-up."""
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return 1 / statistics.median([line["perf/step_time_s"] for line in lines if "perf/step_time_s" in line][3:])


def _bare_start() -> tuple[float, float]:
    """Seconds until a Ray Train worker with a process group runs, and has imported what trains; the second of two starts."""
    import ray
    from ray.train import RunConfig, ScalingConfig
    from ray.train.torch import TorchConfig, TorchTrainer

    def loop(config: dict[str, Any]) -> None:
        import time

        entered = time.time()
        from distmed.train import worker  # noqa: F401

        Path(config["out"]).write_text(f"{entered} {time.time()}")

    found = (0.0, 0.0)
    root = str(Path(__file__).parents[1])
    variables = {"DS_ACCELERATOR": "cpu", "CUDA_VISIBLE_DEVICES": "", "PYTHONPATH": root}
    ray.init(address="local", include_dashboard=False, logging_level="ERROR", log_to_driver=False)
    with tempfile.TemporaryDirectory() as folder:
        for number in range(2):
            out = Path(folder) / f"times-{number}"
            run_config: Any = RunConfig(
                name=f"bare-{number}",
                storage_path=folder,
                worker_runtime_env={"env_vars": variables},  # type: ignore[call-arg]
            )
            trainer = TorchTrainer(
                loop,
                train_loop_config={"out": str(out)},
                scaling_config=ScalingConfig(num_workers=1, resources_per_worker={"CPU": 1}),
                torch_config=TorchConfig(backend="gloo"),
                run_config=run_config,
            )
            began = time.time()
            trainer.fit()
            entered, imported = map(float, out.read_text().split())
            found = (entered - began, imported - began)
    ray.shutdown()
    return found


def _run(folder: str, verb: str, values: dict[str, Any], watched: Sequence[Path] = ()) -> list[float]:
    """Run it to its end; when each of the watched run directories had logged its first step."""
    path = Path(folder) / f"{verb}.yaml"
    path.write_text(yaml.safe_dump(values))
    process = subprocess.Popen([sys.executable, "-m", "distmed", verb, str(path)], cwd=folder)
    seen: dict[Path, float] = {}
    while process.poll() is None:
        for run in watched:
            lines = run / "metrics.jsonl"
            if run not in seen and lines.exists() and lines.stat().st_size:
                seen[run] = time.time()
        time.sleep(0.05)
    if process.returncode:
        sys.exit(process.returncode)
    return [seen[run] for run in watched]


if __name__ == "__main__":
    if sys.argv[1:] == ["simulated"]:
        simulated(Dated("tune", "Searching"))
    elif sys.argv[1:2] == ["overhead"] and len(sys.argv) > 2:
        overhead(Dated("tune", "Searching"), sys.argv[2], sys.argv[3:])
    else:
        sys.exit(__doc__)
