"""One worker of one training loop of train_step.py: a process of its own, so that no loop inherits another's memory.

Run as `train_step_loops.py LOOP TASK.pickle RANK PORT OUT.json`. A pickled `Task` flows in; when each step ended, and
the real tokens in it, flow out. Ray plays no part: the loop alone is measured.
"""

from __future__ import annotations

import json
import os
import pickle
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from deepspeed import DeepSpeedEngine

    from distmed.model.diagnoser import Diagnoser
    from distmed.stream.stream import Stream
    from distmed.train.job import Job


@dataclass(frozen=True)
class Task:
    """`steps` include the warm-up; `batch` is the number of cases in a step of the loop that does not pack."""

    job: Job
    world_size: int
    steps: int
    batch: int


@dataclass
class Measured:
    """Of one worker. `ends_S` are seconds since the loop was entered, `tokens_S` real tokens of the global batch.

    The Trainer's are those of this worker's share: it does not tell how many others have. `slots_S` counts padding too.
    """

    ends_S: list[float] = field(default_factory=list)
    tokens_S: list[int] = field(default_factory=list)
    cases_S: list[int] = field(default_factory=list)
    slots_S: list[int] = field(default_factory=list)
    flops_per_token: float = 0.0
    peak_flops: float = 0.0


def ours(task: Task, rank: int) -> Measured:
    """The loop of distmed/train/worker.py between two evaluations: stream, step, meter."""
    from distmed.stream.weights import log_prior
    from distmed.train.engine import train_step
    from distmed.train.meter import Meter

    job = task.job
    model, engine, stream = _ready(task, rank)
    log_prior_K = log_prior(job.train_plan, engine.device) if job.recipe.train.loss == "logit_adjusted" else None
    meter = Meter(model, job.recipe, world_size=task.world_size, peak_flops=None)
    measured, tick = Measured(), _clock()
    for number, step in enumerate(islice(stream.steps(0), task.steps), start=1):
        meter.data_arrived()
        train_step(engine, step, number, job.total_steps, job.recipe, log_prior_K, lambda: False)
        meter.step_done(step.tokens, step.cases)
        measured.ends_S.append(tick())
        measured.tokens_S.append(step.tokens)
        measured.cases_S.append(step.cases)
        measured.slots_S.append(_slots(step))
    stream.close()
    return _finish(measured, model, job)


def bare(task: Task, rank: int) -> Measured:
    """Forward, backward, step, and nothing else, over batches that lie ready in memory."""
    from distmed.model.loss import loss_sum
    from distmed.stream.weights import log_prior

    job = task.job
    model, engine, stream = _ready(task, rank)
    log_prior_K = log_prior(job.train_plan, engine.device) if job.recipe.train.loss == "logit_adjusted" else None
    steps = list(islice(stream.steps(0, prefetch=False), task.steps))
    engine.train()
    measured, tick = Measured(), _clock()
    for step in steps:
        for batch in step.micro_batches:
            batch_on_device = batch.to(engine.device)
            loss = loss_sum(engine(batch_on_device), batch_on_device, job.recipe.train, log_prior_K)
            engine.backward(loss * (task.world_size / step.denominator), scale_wrt_gas=False)
            engine.step()
        measured.ends_S.append(tick())
        measured.tokens_S.append(step.tokens)
        measured.cases_S.append(step.cases)
        measured.slots_S.append(_slots(step))
    return _finish(measured, model, job)


def trainer(task: Task, rank: int) -> Measured:
    """Hugging Face Trainer as its documentation shows it: cases tokenized before, padded to the longest of a batch."""
    import torch
    from transformers import AutoModelForSequenceClassification, DataCollatorWithPadding, Trainer, TrainingArguments

    from distmed.model.load import load_tokenizer

    job = task.job
    recipe = job.recipe
    tokenizer = load_tokenizer(job.model_folder)
    arguments = TrainingArguments(
        output_dir=str(job.run.path / "trainer"),
        deepspeed={
            **deepspeed_config(task),
            "train_micro_batch_size_per_gpu": "auto",
            "gradient_accumulation_steps": "auto",
        },
        use_cpu=not torch.cuda.is_available(),
        ddp_backend=None if torch.cuda.is_available() else "gloo",
        bf16=job.bf16,
        per_device_train_batch_size=task.batch // task.world_size,
        max_steps=task.steps,
        learning_rate=recipe.optimizer.lr,
        weight_decay=recipe.optimizer.weight_decay,
        max_grad_norm=recipe.optimizer.max_grad_norm or 0.0,
        lr_scheduler_type="cosine",
        save_strategy="no",
        report_to="none",
        logging_steps=recipe.train.log_every,
        disable_tqdm=True,
        seed=recipe.train.seed,
    )
    model = AutoModelForSequenceClassification.from_pretrained(
        job.model_folder,
        num_labels=len(job.labels),
        ignore_mismatched_sizes=True,
        hidden_dropout_prob=recipe.model.dropout,
        attention_probs_dropout_prob=recipe.model.dropout,
    )
    measured = Measured()

    class Timed(Trainer):
        def training_step(self, model: Any, inputs: Any, *rest: Any, **options: Any) -> Any:
            mask_BL = inputs["attention_mask"]
            loss = super().training_step(model, inputs, *rest, **options)
            measured.ends_S.append(tick())
            measured.tokens_S.append(int(mask_BL.sum()))
            measured.cases_S.append(len(mask_BL))
            measured.slots_S.append(mask_BL.numel())
            return loss

    cases = [
        {"input_ids": ids, "attention_mask": [1] * len(ids), "labels": label} for ids, label in encoded(job, tokenizer)
    ]
    loop = Timed(model=model, args=arguments, train_dataset=cases, data_collator=DataCollatorWithPadding(tokenizer))
    tick = _clock()
    loop.train()
    return _finish(measured, None, job)


def encoded(job: Job, tokenizer: Any) -> Iterator[tuple[list[int], int]]:
    """Token ids and class of each training case: the same texts and cuts as in our stream."""
    from distmed.cases.prompts import Prompt
    from distmed.prepare.shards import read_cases_of

    index = {label: k for k, label in enumerate(job.labels)}
    prompt = Prompt(job.recipe.task, job.recipe.data)
    for manifest in job.train_plan.manifests:
        for case in read_cases_of(manifest):
            ids = tokenizer(prompt.text(case), truncation=True, max_length=job.recipe.data.seq_len)["input_ids"]
            yield ids, index[str(case.label)]


def _ready(task: Task, rank: int) -> tuple[Diagnoser, DeepSpeedEngine, Stream]:
    """Model, engine and stream as train/worker.py makes them."""
    import torch

    from distmed.model.load import load_model, load_tokenizer
    from distmed.stream.stream import Stream
    from distmed.train.engine import build_engine, start_process_group

    job = task.job
    device = torch.device("cuda", rank) if torch.cuda.is_available() else torch.device("cpu")
    if device.type == "cuda":
        torch.cuda.set_device(device)
    start_process_group(device, job.recipe.cluster.collective_timeout_s)
    config = deepspeed_config(task)
    model = load_model(job.recipe, job.model_folder, job.labels, job.label_names, config, device)
    engine = build_engine(model, job.recipe, config)
    return model, engine, Stream(job.train_plan, load_tokenizer(job.model_folder), rank, task.world_size)


def deepspeed_config(task: Task) -> dict[str, Any]:
    """The JSON of a run with every "auto" decided, the same for all loops."""
    from distmed.train.deepspeed_config import resolve_config

    job = task.job
    return resolve_config(
        job.recipe,
        world_size=task.world_size,
        bf16=job.bf16,
        hidden_size=job.hidden_size,
        nvme_path=job.run.path / "nvme",
    )


def _slots(step: Any) -> int:
    return sum(batch.input_ids_BL.numel() for batch in step.micro_batches)


def _clock() -> Callable[[], float]:
    """Seconds since now; on a GPU the work that was started before is waited for."""
    import torch

    def now() -> float:
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        return time.perf_counter()

    started = now()
    return lambda: now() - started


def _finish(measured: Measured, model: Diagnoser | None, job: Job) -> Measured:
    """Measure the matrix product on all workers at once, in the same processes that trained."""
    import torch
    import torch.distributed as dist

    from distmed.train.hardware import peak_flops
    from distmed.train.meter import FlopCount

    dist.barrier()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    measured.peak_flops = peak_flops(device, bf16=job.bf16) or 0.0
    if model is not None:
        flops = FlopCount(model, job.recipe.data.seq_len)
        measured.flops_per_token = flops.of(sum(measured.tokens_S), sum(measured.cases_S)) / sum(measured.tokens_S)
    return measured


def main(loop: str, path: str, rank: int, port: str, out: str) -> None:
    task: Task = pickle.loads(Path(path).read_bytes())
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(task.world_size)}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "LOCAL_WORLD_SIZE": str(task.world_size)}
    if loop == "trainer":
        os.environ["LOCAL_SIZE"] = str(task.world_size)  # the launcher `deepspeed` sets it
    import torch

    if not torch.cuda.is_available():
        torch.set_num_threads(max(1, len(os.sched_getaffinity(0)) // task.world_size))
    measured = {"ours": ours, "bare": bare, "trainer": trainer}[loop](task, rank)
    Path(out).write_text(json.dumps(asdict(measured)), encoding="utf-8")


if __name__ == "__main__":
    # Pickle finds Task by the name that the parent gave it.
    sys.modules["train_step_loops"] = sys.modules["__main__"]
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]), sys.argv[4], sys.argv[5])
