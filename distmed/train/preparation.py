"""Before a worker starts: what the recipe asks for is held against model, data and checkpoints, and the work is measured.

A recipe flows in, a `Job` flows out. All that a user can mend is found here: first what takes seconds and needs no cluster
(`check_inputs`), then what takes a pass over the data (`make_job`).
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from distmed.checkpoint.folder import checkpoint_root
from distmed.checkpoint.folder import names as checkpoint_names
from distmed.errors import UserError, one_of
from distmed.recipe import Recipe
from distmed.rundir import RunDir
from distmed.train.abilities import check_abilities
from distmed.train.deepspeed_config import read_config, resolve_config, wants_bf16
from distmed.train.job import Job
from distmed.train.progress import Progress

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from distmed.model.folder import ModelFacts
    from distmed.prepare.manifest import Manifest


def check_settings(recipe: Recipe, run_dir: RunDir) -> None:
    """What can be told without a look at model, data or storage: the task, the metric, the DeepSpeed file."""
    _check_task(recipe)
    _check_metric(recipe)
    resolve_config(
        recipe,
        world_size=recipe.cluster.most,
        bf16=bool(wants_bf16(recipe)),
        hidden_size=1,  # sizes buckets only, and may not be known yet
        nvme_path=run_dir.path / "nvme",
    )


def check_inputs(recipe: Recipe, run_dir: RunDir, *, resume: bool) -> None:
    """What can be told without a cluster and without reading more than the first case of each source."""
    from distmed.model.builtin import TINY_LLAMA
    from distmed.stream.store import check_data
    from distmed.train.resume import refuse_leftovers
    from distmed.train.tracking import wandb_mode

    wandb_mode(recipe.tracking.wandb)
    check_settings(recipe, run_dir)
    _check_storage(recipe, run_dir)
    if not resume:
        refuse_leftovers(checkpoint_root(recipe, run_dir))
    if recipe.model.path != TINY_LLAMA:
        _open_model(recipe, run_dir, resume=resume)
    elif recipe.model.init != "random":
        raise UserError(f"{TINY_LLAMA} has no trained weights", "set model.init=random")
    for source in [*recipe.data.train, *recipe.data.eval]:
        check_data(source, recipe.task, run_dir.data)


@contextmanager
def _private() -> Iterator[None]:
    """Shards and token ids hold the text of patients: what is written is for the eyes of this user alone."""
    before = os.umask(0o077)
    try:
        yield
    finally:
        os.umask(before)


@_private()
def make_job(recipe: Recipe, run_dir: RunDir, *, gpu: bool, resume: bool, progress: Progress) -> Job:
    """Read the cases, count their tokens, and say how many steps there will be. `check_inputs` comes first."""
    from distmed.model.builtin import TINY_LLAMA
    from distmed.model.kernels import check_device
    from distmed.stream.build import build, label_index
    from distmed.stream.report import counting_line, notes
    from distmed.stream.store import on_disk, open_data
    from distmed.stream.stream import Stream
    from distmed.train.hardware import native_bf16
    from distmed.train.lost import refuse_lost
    from distmed.train.resume import newest_saved

    bf16 = wants_bf16(recipe)
    bf16 = native_bf16(gpu=gpu) if bf16 is None else bf16
    check_abilities(read_config(recipe.deepspeed), gpu=gpu)
    check_device(recipe.model.attention, gpu=gpu, bf16=bf16)
    with progress.phase("reading the cases"):
        train = [open_data(source, run_dir.data) for source in recipe.data.train]
        evaluation = [on_disk(open_data(source, run_dir.data)) for source in recipe.data.eval]
        if recipe.train.linear_floor or recipe.model.path == TINY_LLAMA:
            train = [on_disk(manifest) for manifest in train]  # both read every case beside the stream
    labels, names = label_index(train)
    if recipe.task == "classify" and len(labels) == 1:
        raise UserError(f"every case in data.train has the label {names[0]}", "give it cases of at least two")
    _check_metric(recipe, labels)
    if recipe.model.path == TINY_LLAMA:
        with progress.phase("making the built-in model"):
            _make_builtin(recipe, run_dir, train)
    facts, tokenizer = _open_model(recipe, run_dir, resume=resume)
    saved = newest_saved(checkpoint_root(recipe, run_dir)) if resume else None
    if resume and saved is None:
        refuse_lost(recipe, run_dir)
        if not checkpoint_names(checkpoint_root(recipe, run_dir)):
            progress.note("no checkpoint was saved yet: starts from the beginning")
    done = (saved.state["run"]["step"], saved.state["run"]["k"]) if saved else (0, 0)
    index = {label: i for i, label in enumerate(labels)}
    processes = os.cpu_count() or 1
    with progress.phase("counting tokens") as say:
        options: dict[str, Any] = {
            "processes": processes,
            "tell": lambda tokens, seconds: say(counting_line(tokens, seconds)),
        }
        train_plan = build(recipe, train, tokenizer, index, run_dir.data, train=True, done=done, **options)
        eval_plan = (
            build(recipe, evaluation, tokenizer, index, run_dir.data, train=False, **options) if evaluation else None
        )
    if saved is not None:
        Stream(train_plan, tokenizer, 0, 1).check(saved.state["stream"])
    precision = recipe.train.model_copy(update={"precision": "bf16" if bf16 else "fp32"})
    recipe = recipe.model_copy(update={"train": precision})
    batch = recipe.train.global_batch
    steps_per_epoch = -(-train_plan.sequences_per_epoch(0) // batch)
    total_steps = train_plan.total_steps(*done)
    progress.note(
        f"{train_plan.cases} cases, {len(labels)} labels, {train_plan.tokens} tokens an epoch in "
        f"{train_plan.sequences_per_epoch(0)} sequences ({train_plan.fill_rate:.0%} full); {total_steps} steps"
    )
    for plan in (train_plan, eval_plan):
        for note in notes(plan) if plan is not None else []:
            progress.note(note)
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


def write_run_files(job: Job) -> None:
    """`recipe.yaml` and `environment.json`, once everything is checked."""
    from distmed.train.hardware import environment

    job.recipe.write(job.run.recipe)
    facts = {**environment(), "world_size": job.recipe.cluster.num_workers}
    job.run.environment.write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")


def _open_model(recipe: Recipe, run_dir: RunDir, *, resume: bool) -> tuple[ModelFacts, PreTrainedTokenizerBase]:
    """What is known of the model, and its tokenizer; the same as the newest checkpoint's where a run is resumed."""
    from distmed.model.builtin import TINY_LLAMA
    from distmed.model.families import FAMILIES
    from distmed.model.fidelity import check_cases_apart, check_trainable
    from distmed.model.folder import check_model
    from distmed.model.load import load_tokenizer
    from distmed.stream.encode import tokenizer_hash
    from distmed.train.resume import check_same_model, check_same_scale, newest_saved

    model = recipe.model
    if model.path == TINY_LLAMA:
        model = model.model_copy(update={"path": str(run_dir.base)})
    facts = check_model(model, recipe.task, packing=recipe.data.packing)
    check_trainable(facts)
    if facts.max_positions is not None and recipe.data.seq_len > facts.max_positions:
        raise UserError(
            f"data.seq_len={recipe.data.seq_len}, but {facts.model_type} reads at most {facts.max_positions} tokens",
            f"set data.seq_len={facts.max_positions} or less",
        )
    check_cases_apart(recipe, facts)
    sharers, family = recipe.cluster.sequence_parallel, FAMILIES.get(facts.model_type)
    if sharers > 1 and family is None:
        raise UserError(
            f"cluster.sequence_parallel was not tested with {facts.model_type} models",
            "set cluster.sequence_parallel=1",
        )
    if sharers > 1 and family is not None and not family.sdpa and model.attention == "sdpa":
        raise UserError(
            f"cluster.sequence_parallel: the attention of {facts.model_type} models can be shared in flash and flex alone",
            "set model.attention=flash2, flash3 or flex (on GPUs), or cluster.sequence_parallel=1",
        )
    if recipe.train.mlp_tiles > 1 and (family is None or not family.causal):
        raise UserError(
            f"train.mlp_tiles was tested with decoders only, and this is a {facts.model_type} model",
            "set train.mlp_tiles=1",
        )
    if facts.heads % sharers:
        raise UserError(
            f"cluster.sequence_parallel={sharers} does not divide the {facts.heads} key-value heads of {facts.folder}",
            f"set it to a number that divides {facts.heads}, so that each worker gets whole heads",
        )
    tokenizer = load_tokenizer(facts.folder, trust_remote_code=model.trust_remote_code)
    saved = newest_saved(checkpoint_root(recipe, run_dir)) if resume else None
    if saved is not None:
        check_same_model(saved, facts.folder, facts.hash, tokenizer_hash(tokenizer))
        check_same_scale(saved, model.lora)
    return facts, tokenizer


def _make_builtin(recipe: Recipe, run_dir: RunDir, train: list[Manifest]) -> None:
    from distmed.cases.prompts import Prompt
    from distmed.model.builtin import make_tiny_llama
    from distmed.prepare.shards import read_cases_of

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


def _check_task(recipe: Recipe) -> None:
    """Whether the task has a use for what is set. No check of the recipe alone, which those of earlier runs must pass."""
    asked = [
        ("train.loss", recipe.train.loss, "cross_entropy"),
        ("data.class_weights", recipe.data.class_weights, "none"),
        ("optimizer.head_lr", recipe.optimizer.head_lr, None),
    ]
    for key, value, unused in asked:
        if recipe.task == "generate" and value != unused:
            raise UserError(
                f"{key}={value} is for a head over the labels, and a run that generates would do nothing with it",
                f"leave {key} out ({unused or 'null'}), or set task: classify",
            )


def _check_metric(recipe: Recipe, labels: list[str] | None = None) -> None:
    """Whether an evaluation can give `checkpoint.best`; more is known once the labels are."""
    from distmed.evaluate.metrics import METRICS, SUBGROUP

    name = recipe.checkpoint.best
    diagnoses = bool(recipe.data.eval)
    if recipe.task == "generate" and labels is not None:
        from distmed.stream.build import MAX_LABELS

        diagnoses = diagnoses and 0 < len(labels) <= MAX_LABELS
    if not recipe.data.eval and (name in METRICS or name.startswith(SUBGROUP)):
        raise UserError(
            f"checkpoint.best={name} is of an evaluation, and data.eval is empty",
            "add data.eval, or set checkpoint.best=eval/loss",
        )
    known = ["eval/loss", *(METRICS if diagnoses else [])]
    if name not in known and not (diagnoses and name.startswith(SUBGROUP)):
        raise UserError(f"checkpoint.best: no evaluation gives {name}", f"use one of {one_of(known)}")


def _check_storage(recipe: Recipe, run_dir: RunDir) -> None:
    """Whether checkpoints can be kept where the recipe wants them. Nothing is written yet."""
    from distmed.checkpoint.storage import Storage

    if recipe.checkpoint.storage_path is None:
        return
    what = f"checkpoint.storage_path: cannot write to {recipe.checkpoint.storage_path}"
    try:
        where = Storage.at(checkpoint_root(recipe, run_dir))
        where.children()
    except Exception as error:  # every store behind fsspec has errors of its own
        raise UserError(f"{what}: {type(error).__name__}", "mend it, or install what its protocol needs") from error
    if where.is_local:
        there = next(folder for folder in Path(where.path).parents if folder.exists())
        if not there.is_dir() or not os.access(there, os.W_OK):
            raise UserError(f"{what}: {there} is no folder that can be written to", "name another place")
