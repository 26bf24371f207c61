"""Billions of parameters on this machine: `python benchmarks/billions.py lora-7b|full-1.5b MEDQUAD.jsonl` (CPU, much disk).

A model of random weights is written, the plan is asked, and only then the run is started through the user's door: a few steps,
an interrupt and a resume (not with the optimizer on NVMe: two checkpoints of it want a larger disk), the export. Memory is that
of all processes of the run together, shared pages counted once (PSS, sampled); beside it the largest resident memory of a
worker, which is what the plan predicts.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
from dated import Dated
from load import GIB, SHAPES, write_model

ROOT = Path(__file__).parent.parent
SAMPLE_S = 3.0
NAME = "billions"


@dataclass(frozen=True)
class Case:
    """`zero`: what differs from the shipped DeepSpeed file. `steps`: until an interrupt, which takes effect up to two steps
    later, and in all."""

    title: str
    shape: str
    deepspeed: str
    zero: dict[str, Any]
    workers: int
    words: list[str]
    adapters: bool
    steps: tuple[int | None, int]


CASES = {
    "lora-7b": Case(
        "LoRA of a 7 B Llama shape, two workers, ZeRO-3",
        "7B",
        "zero3",
        # No more than a few layers are gathered at a time: all workers of this host have the same memory.
        {"stage3_max_live_parameters": 100_000_000, "stage3_max_reuse_distance": 100_000_000},
        2,
        ["model.lora.rank=8", "optimizer.lr=1e-3"],
        True,
        (1, 5),
    ),
    "full-1.5b": Case(
        "Full fine-tuning of a 1.5 B Qwen2 shape, optimizer on NVMe",
        "1.5B",
        "zero3_nvme",
        {"stage3_max_live_parameters": 100_000_000, "stage3_max_reuse_distance": 100_000_000},
        1,
        ["optimizer.lr=1e-5"],
        False,
        (None, 3),
    ),
}


def recipe_words(case: Case, model: Path, medquad: Path, ds_file: Path) -> list[str]:
    """The recipe of MedQuAD in this repository, and what differs from it."""
    return [
        str(ROOT / "recipes" / "sft_medquad.yaml"),
        f"name={NAME}",
        f"model.path={model}",
        "model.init=pretrained",
        f"data.train.0.source={medquad}",
        "data.train.0.limit=200",
        "data.eval=[]",
        "data.seq_len=128",
        f"train.global_batch={case.workers}",
        "train.micro_batch=1",
        f"train.max_steps={case.steps[1]}",
        "train.log_every=1",
        "train.precision=bf16",
        "train.activation_checkpointing=true",
        "checkpoint.keep=1",
        "tracking.wandb=disabled",
        f"cluster.num_workers={case.workers}",
        f"deepspeed={ds_file}",
        *case.words,
    ]


@dataclass
class Ran:
    """What one command took. `peak`: bytes of all its processes; `worker_peak`: of the largest training worker."""

    status: int
    seconds: float
    peak: int = 0
    worker_peak: int = 0


def watched(words: list[str], folder: Path, stop_after_step: int | None = None) -> Ran:
    """Run `distmed`, sampling memory; an interrupt is sent once `stop_after_step` is in its metrics."""
    started = time.monotonic()
    log = (folder / "out.txt").open("a")
    process = subprocess.Popen(
        [sys.executable, "-m", "distmed", *words],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT), "RAY_memory_usage_threshold": "0.99"},
        stdout=log,
        stderr=log,
    )
    ran = Ran(0, 0.0)
    metrics = folder / "runs" / NAME / "metrics.jsonl"
    while process.poll() is None:
        _sample(process.pid, ran)
        if stop_after_step is not None and metrics.exists() and f'"step": {stop_after_step},' in metrics.read_text():
            process.send_signal(signal.SIGINT)
            stop_after_step = None
        time.sleep(SAMPLE_S)
    ran.status, ran.seconds = process.returncode, time.monotonic() - started
    return ran


def _sample(pid: int, ran: Ran) -> None:
    total = 0
    try:
        family = [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]
    except psutil.NoSuchProcess:
        return
    for process in family:
        try:
            rollup = Path(f"/proc/{process.pid}/smaps_rollup").read_text()
            status = Path(f"/proc/{process.pid}/status").read_text()
        except (OSError, psutil.Error):
            continue
        total += _kilobytes(rollup, "Pss:")
        # The kernel keeps 15 letters of ray::RayTrainWorker.
        if "RayTrainWo" in status.splitlines()[0]:
            ran.worker_peak = max(ran.worker_peak, _kilobytes(status, "VmHWM:"))
    ran.peak = max(ran.peak, total)


def _kilobytes(text: str, key: str) -> int:
    return next((int(line.split()[1]) * 1024 for line in text.splitlines() if line.startswith(key)), 0)


def size_of(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def main(name: str, medquad: str) -> None:
    case = CASES[name]
    # Before the run has any process, so that the file begins with the prediction.
    file = Dated(NAME, "Billions of parameters on one small machine")
    with tempfile.TemporaryDirectory(dir=os.environ.get("BILLIONS_DIR")) as temporary:
        folder = Path(temporary)
        texts = [json.loads(line)["answer"] for line in Path(medquad).read_text(encoding="utf-8").splitlines()[:2000]]
        size = write_model(folder / "model", SHAPES[case.shape], texts)
        ds_file = folder / "deepspeed.json"
        config = json.loads((ROOT / "ds_configs" / f"{case.deepspeed}.json").read_text())
        config["zero_optimization"] |= case.zero
        ds_file.write_text(json.dumps(config))
        words = recipe_words(case, folder / "model", Path(medquad), ds_file)
        file.line(f"{case.title}. {size / GIB:.2f} GiB of weights in bf16, random. The run, in `recipes/`:\n")
        shown = " ".join(word.replace(str(folder), "…").replace(medquad, "medquad.jsonl") for word in words[1:])
        file.line(f"    distmed train recipes/sft_medquad.yaml {shown}\n")
        file.line(f"with `{json.dumps(case.zero)}` in `ds_configs/{case.deepspeed}.json`.\n")
        plan = json.loads(
            subprocess.run(
                [sys.executable, "-m", "distmed", "plan", *words, "--json"],
                cwd=folder, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=True,
            ).stdout
        )  # fmt: skip
        parts = ", ".join(f"{part} {value / GIB:.2f}" for part, value in plan["device"]["parts"].items())
        file.line(
            f"Predicted before: **{plan['verdict']}**, {plan['device']['total'] / GIB:.2f} GiB a worker ({parts}); "
            f"a step {plan['step']['seconds']:.0f} s; a checkpoint {plan['disk']['checkpoint'] / GIB:.2f} GiB.\n"
        )
        run = folder / "runs" / NAME
        file.table("stage", "status", "s", "peak GiB, all processes", "peak GiB, largest worker")
        stop, steps = case.steps
        last_stage = f"to step {steps}, checkpoint, export of the model"
        stages: list[tuple[str, list[str], int | None]] = [(f"train {last_stage}", ["train", *words], None)]
        if stop is not None:
            stages = [
                (f"train, interrupted after step {stop}", ["train", *words], stop),
                (f"resume {last_stage}", ["train", str(run / "recipe.yaml"), "--resume"], None),
            ]
        if case.adapters:
            export = ["export", str(run), "--out", "adapters", "--adapters"]
            stages.append(("export of the adapters alone", export, None))
        ran = []
        for stage, command, interrupt_after in stages:
            ran.append(watched(command, folder, interrupt_after))
            last = ran[-1]
            worker = f"{last.worker_peak / GIB:.2f}" if last.worker_peak else ""
            file.row(stage, last.status, f"{last.seconds:.0f}", f"{last.peak / GIB:.2f}", worker)
            if last.status not in (0, 130):
                print((folder / "out.txt").read_text()[-4000:])
                print((run / "log.txt").read_text()[-4000:] if (run / "log.txt").exists() else "")
                raise SystemExit(f"{stage} ended with {last.status}")
        lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
        losses = {line["step"]: line["train/loss"] for line in lines if "train/loss" in line}
        steps = {line["step"]: line["perf/step_time_s"] for line in lines if "perf/step_time_s" in line}
        checkpoint = size_of(next(run.glob("checkpoints/step-*")))
        largest = max(each.worker_peak for each in ran)
        file.line()
        file.line(f"- losses: {', '.join(f'{step}: {loss:.3f}' for step, loss in losses.items())}")
        file.line(f"- seconds a step: {', '.join(f'{step}: {seconds:.1f}' for step, seconds in steps.items())}")
        file.line(f"- checkpoint: {checkpoint / GIB:.3f} GiB, {checkpoint / size:.2%} of the weights in bf16")
        if largest:
            error = plan["device"]["total"] / largest - 1
            file.line(f"- the largest worker against the prediction: {largest / GIB:.2f} GiB, {error:+.1%}")
        if case.adapters:
            names = ", ".join(sorted(path.name for path in (folder / "adapters").iterdir()))
            file.line(f"- adapters: {size_of(folder / 'adapters') / GIB:.3f} GiB ({names})")
        file.line(f"- merged model: {size_of(run / 'model') / GIB:.2f} GiB")


if __name__ == "__main__":
    main(sys.argv[1], str(Path(sys.argv[2]).resolve()))
