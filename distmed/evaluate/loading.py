"""From what a person calls a model to one in memory: a Hugging Face folder, a hub id, a run, or one of a run's checkpoints.

A name flows in; `Opened` says what it is (the driver), `Loaded` holds it ready to score (each worker).
"""

from __future__ import annotations

import json
import socket
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from distmed.errors import UserError
from distmed.overrides import apply_override
from distmed.recipe import Model, Recipe
from distmed.recipe_file import check, load_recipe
from distmed.rundir import RunDir

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedTokenizerBase

    from distmed.model.diagnoser import Diagnoser

LONGEST_PROMPT = 4096
ROOM_FOR_ANSWER = 64
SCORING = ("choice.", "data.seq_len", "data.excluded_findings")
TOKENS_ON_CPU, TOKENS_ON_GPU = 4096, 65536
LOGITS_ON_CPU, LOGITS_ON_GPU = 2**28, 2**31
"""What a generator's logits over its vocabulary may take in one pass: 1 and 8 GiB in float32."""


@dataclass(frozen=True)
class Opened:
    """A model found and looked at, not loaded. `labels` are those of its head, empty if it has none.

    `recipe` says how a case is put to it: as its run did where that is known.
    """

    name: str
    folder: Path
    checkpoint: str | None
    task: Literal["classify", "generate"]
    labels: list[str]
    label_names: list[str]
    recipe: Recipe
    hash: str
    architecture: str
    bf16: bool

    def over(self, labels: list[str], label_names: list[str]) -> Opened:
        """The same model with a head, or candidates, over these labels."""
        return replace(self, labels=labels, label_names=label_names)


@dataclass(frozen=True)
class Loaded:
    """A model in memory, in one process. `token_budget`: padded tokens of one forward pass."""

    diagnoser: Diagnoser
    tokenizer: PreTrainedTokenizerBase
    device: torch.device
    task: Literal["classify", "generate"]
    labels: list[str]
    label_names: list[str]
    recipe: Recipe
    token_budget: int

    @property
    def untrained_head(self) -> bool:
        return bool(self.diagnoser.fresh)


def open_model(name: str, work: Path, overrides: list[str] | None = None) -> Opened:
    """Find the model and hold it against what scoring needs. A checkpoint is exported into `work` first.

    `overrides`: `key=value` for what belongs to scoring, such as `choice.shots=5` or `data.seq_len=512`.

    Raises UserError for anything that is no model, or not a whole one.
    """
    from distmed.model.folder import check_model

    folder, checkpoint, run = _folder(name, work)
    config = _config(folder)
    task = _task(config)
    facts = check_model(Model(path=str(folder)), task, packing=False)
    trained = task == "classify" and _has_head(config)
    labels = [config["id2label"][key] for key in sorted(config["id2label"], key=int)] if trained else []
    names = config.get("label_names") or labels
    return Opened(
        name=name,
        folder=facts.folder,
        checkpoint=checkpoint,
        task=task,
        labels=labels,
        label_names=names if len(names) == len(labels) else labels,
        recipe=_recipe(folder, task, facts.max_positions, _asked(config, task, run), overrides or []),
        hash=facts.hash,
        architecture=facts.model_type,
        bf16=config.get("dtype", config.get("torch_dtype")) == "bfloat16",
    )


def load(opened: Opened) -> Loaded:
    """The model on this process' device; bf16 where it was saved so and there is a GPU, else float32."""
    import torch

    from distmed.model.load import load_model, load_tokenizer

    if not (opened.folder / "config.json").is_file():
        raise UserError(
            f"{socket.gethostname()} sees no model at {opened.folder}", "put it on storage that all hosts share"
        )
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    on_gpu = device.type == "cuda"
    settings = {"bf16": {"enabled": on_gpu and opened.bf16}}
    model = load_model(opened.recipe, opened.folder, opened.labels, opened.label_names, settings, device)
    return Loaded(
        diagnoser=model.eval(),
        tokenizer=load_tokenizer(opened.folder),
        device=device,
        task=opened.task,
        labels=opened.labels,
        label_names=opened.label_names,
        recipe=opened.recipe,
        token_budget=_token_budget(opened, model.network.config.get_text_config().vocab_size, on_gpu=on_gpu),
    )


def _token_budget(opened: Opened, vocabulary: int, *, on_gpu: bool) -> int:
    tokens, logits = (TOKENS_ON_GPU, LOGITS_ON_GPU) if on_gpu else (TOKENS_ON_CPU, LOGITS_ON_CPU)
    return tokens if opened.task == "classify" else min(tokens, logits // vocabulary)


def _folder(name: str, work: Path) -> tuple[Path, str | None, RunDir | None]:
    """(model folder, the checkpoint it was exported from, the run it belongs to)."""
    from distmed.checkpoint.folder import parse
    from distmed.checkpoint.publish import export_checkpoint, find_checkpoint
    from distmed.model.folder import find_folder

    path = Path(name).expanduser()
    named = parse(name.rstrip("/").rpartition("/")[2]) is not None
    if not path.is_dir() and not named:
        return find_folder(Model(path=name)), None, None
    if (path / "config.json").is_file():
        return path.resolve(), None, RunDir(path.resolve().parent) if path.resolve().name == "model" else None
    run = RunDir(path.resolve().parents[1] if named else path)
    if not named and (run.model / "config.json").is_file():
        return run.model, None, run
    is_run = run.recipe.is_file() or run.checkpoints.is_dir()
    if not named and not is_run and not any(parse(child.name) for child in path.iterdir()):
        raise UserError(
            f"{path} is no model: no config.json, no run, no checkpoint",
            "name a Hugging Face folder, runs/NAME, a checkpoint step-…, or a hub id",
        )
    checkpoint = find_checkpoint(name if "://" in name else path)
    exported = work / "model" / checkpoint.rstrip("/").rpartition("/")[2]
    if not (exported / "config.json").is_file():
        export_checkpoint(checkpoint, exported)
    return exported, checkpoint, run


def _config(folder: Path) -> dict[str, Any]:
    try:
        values: dict[str, Any] = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}  # check_model says what is wrong with it
    return values if isinstance(values, dict) else {}


def _task(config: dict[str, Any]) -> Literal["classify", "generate"]:
    """By the head that was saved; a bare backbone classifies if it reads both ways, else it writes."""
    from distmed.model.families import FAMILIES

    if _has_head(config):
        return "classify"
    family = FAMILIES.get(str(config.get("model_type")))
    causal = any("CausalLM" in name or "LMHead" in name for name in config.get("architectures") or [])
    return "generate" if causal or (family is not None and family.causal) else "classify"


def _has_head(config: dict[str, Any]) -> bool:
    named = any(str(name).endswith("ForSequenceClassification") for name in config.get("architectures") or [])
    return named and bool(config.get("id2label"))


def _asked(config: dict[str, Any], task: str, run: RunDir | None) -> dict[str, Any]:
    """How a case was put to the model in training, as its config.json or else its run's recipe says; empty if none does."""
    from distmed.checkpoint.publish import ASKED, how_asked

    known = config.get(ASKED)
    if not isinstance(known, dict) and run is not None and run.recipe.is_file():
        known = how_asked(load_recipe(run.recipe))
    if not isinstance(known, dict) or known.get("task") != task:
        return {}
    return {key: known[key] for key in ("seq_len", "excluded_findings") if key in known}


def _recipe(folder: Path, task: str, max_positions: int | None, asked: dict[str, Any], overrides: list[str]) -> Recipe:
    """How a case is put to the model: as in training where that is known, else by the defaults."""
    longest = min(max_positions or LONGEST_PROMPT, LONGEST_PROMPT)
    if task == "generate":
        longest -= ROOM_FOR_ANSWER
    data = {"seq_len": longest, **asked, "train": [{"source": "-"}], "packing": False, "long_cases": "cut"}
    values = {"name": "evaluate", "task": task, "model": {"path": str(folder)}, "data": data}
    for override in overrides:
        key = override.partition("=")[0]
        if not key.startswith(SCORING):
            raise UserError(f"{key} does not belong to scoring", f"keys that do begin with {' or '.join(SCORING)}")
        apply_override(values, override)
    return check(values)
