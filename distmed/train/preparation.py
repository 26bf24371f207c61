"""Before a worker starts: the model's folder, the shards, the token counts, the number of steps; all checks without workers.

A recipe flows in, a `Job` flows out. All that a user can mend is found here, in seconds, before anything is trained.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from typing import TYPE_CHECKING

from distmed.errors import UserError, one_of
from distmed.recipe import Recipe
from distmed.rundir import RunDir
from distmed.train.deepspeed_config import resolve_config
from distmed.train.job import Job
from distmed.train.progress import Progress

if TYPE_CHECKING:
    from distmed.prepare.manifest import Manifest


def make_job(recipe: Recipe, run_dir: RunDir, *, gpu: bool, resume: bool, progress: Progress) -> Job:
    """Check the recipe against model, data and hardware, count the tokens, and say how many steps there will be."""
    from distmed.model.builtin import TINY_LLAMA
    from distmed.model.folder import check_model
    from distmed.model.load import load_tokenizer
    from distmed.prepare.open import open_source
    from distmed.stream.build import build, label_index
    from distmed.train.hardware import native_bf16
    from distmed.train.tracking import wandb_mode

    wandb_mode(recipe.tracking.wandb)
    _check_metric(recipe.checkpoint.best, recipe)
    with progress.phase("reading the cases"):
        train = [open_source(source, run_dir.data) for source in recipe.data.train]
        evaluation = [open_source(source, run_dir.data) for source in recipe.data.eval]
    model = recipe.model
    if model.path == TINY_LLAMA:
        with progress.phase("making the built-in model"):
            _make_builtin(recipe, run_dir, train)
        model = model.model_copy(update={"path": str(run_dir.base)})
    facts = check_model(model, recipe.task, packing=recipe.data.packing)
    if facts.max_positions is not None and recipe.data.seq_len > facts.max_positions:
        raise UserError(
            f"data.seq_len={recipe.data.seq_len}, but {facts.model_type} reads at most {facts.max_positions} tokens",
            f"set data.seq_len={facts.max_positions} or less",
        )
    tokenizer = load_tokenizer(facts.folder)
    labels, names = label_index(train)
    index = {label: i for i, label in enumerate(labels)}
    processes = os.cpu_count() or 1
    with progress.phase("counting tokens"):
        train_plan = build(recipe, train, tokenizer, index, run_dir.data, train=True, processes=processes)
        eval_plan = (
            build(recipe, evaluation, tokenizer, index, run_dir.data, train=False, processes=processes)
            if evaluation
            else None
        )
    bf16 = recipe.train.precision == "bf16" or (recipe.train.precision == "auto" and native_bf16(gpu=gpu))
    precision = recipe.train.model_copy(update={"precision": "bf16" if bf16 else "fp32"})
    recipe = recipe.model_copy(update={"train": precision})
    batch = recipe.train.global_batch
    steps_per_epoch = -(-train_plan.sequences_per_epoch(0) // batch)
    total_steps = recipe.train.max_steps or -(-train_plan.total_sequences // batch)
    resolve_config(
        recipe,
        world_size=recipe.cluster.num_workers,
        bf16=bf16,
        hidden_size=facts.hidden_size,
        nvme_path=run_dir.path / "nvme",
    )
    progress.note(
        f"{train_plan.cases} cases, {len(labels)} labels, {train_plan.tokens} tokens an epoch in "
        f"{train_plan.sequences_per_epoch(0)} sequences ({train_plan.fill_rate:.0%} full); {total_steps} steps"
    )
    return Job(
        recipe=recipe,
        run=run_dir,
        model_folder=facts.folder,
        model_hash=facts.hash,
        labels=labels,
        label_names=names,
        train_plan=train_plan,
        eval_plan=eval_plan,
        total_steps=total_steps,
        eval_every=recipe.train.eval_every or steps_per_epoch,
        checkpoint_every=recipe.checkpoint.every or steps_per_epoch,
        bf16=bf16,
        hidden_size=facts.hidden_size,
    )


def write_run_files(job: Job, *, resume: bool) -> None:
    """`recipe.yaml` and `environment.json`, once everything is checked."""
    from distmed.train.hardware import environment

    job.run.recipe.write_text(job.recipe.to_yaml(), encoding="utf-8")
    facts = {**environment(), "world_size": job.recipe.cluster.num_workers}
    job.run.environment.write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")


def _make_builtin(recipe: Recipe, run_dir: RunDir, train: list[Manifest]) -> None:
    from distmed.cases.prompts import Prompt
    from distmed.model.builtin import TINY_LLAMA, make_tiny_llama
    from distmed.prepare.shards import read_cases_of

    if recipe.model.init != "random":
        raise UserError(f"{TINY_LLAMA} has no trained weights", "set model.init=random")
    prompt = Prompt(recipe.task, recipe.data)

    def texts() -> Iterator[str]:
        for manifest in train:
            for case in read_cases_of(manifest):
                if recipe.task == "classify":
                    yield prompt.text(case, None)
                else:
                    yield from (message["content"] for message in prompt.messages(case, None))

    if not (run_dir.base / "config.json").exists():
        make_tiny_llama(run_dir.base, texts())


def _check_metric(name: str, recipe: Recipe) -> None:
    from distmed.evaluate.metrics import METRICS

    known = ["eval/loss", *(METRICS if recipe.data.eval else [])]
    if name not in known and not name.startswith("diag/top1/"):
        raise UserError(f"checkpoint.best: no evaluation gives {name}", f"use one of {one_of(known)}")
