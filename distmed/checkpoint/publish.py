"""From what a person names, a run or one of its checkpoints, to a plain Hugging Face folder.

A path flows in; the checkpoint it stands for, and a folder that transformers opens without distmed, flow out.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from distmed.checkpoint.card import card_of_checkpoint
from distmed.checkpoint.export import BESIDE_TOKENIZER, GIGABYTE, Dtype, export, export_adapters
from distmed.checkpoint.folder import checkpoint_root, newest_complete, parse, why_incomplete
from distmed.checkpoint.read import Checkpoint
from distmed.checkpoint.weights import without_wrapper
from distmed.errors import UserError
from distmed.model.hash import earlier_model_hash, model_hash
from distmed.model.load import is_whole_tokenizer, load_tokenizer
from distmed.model.lora import ALL_LINEAR
from distmed.recipe import Recipe
from distmed.recipe_file import load_recipe
from distmed.rundir import RunDir
from distmed.stream.encode import closing_token, tokenizer_hash

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


ASKED = "distmed"
"""The key of `how_asked` in an exported config.json, and in what a checkpoint says of its model."""


def how_asked(recipe: Recipe) -> dict[str, Any]:
    """What decides how a case is put to the model, beside its tokenizer: an evaluation must do as training did."""
    data = recipe.data
    return {"task": recipe.task, "seq_len": data.seq_len, "excluded_findings": data.excluded_findings}


def find_checkpoint(name: str | Path) -> str:
    """The checkpoint that a path or URL is, or else the newest complete one of the run (or of the folder of checkpoints) there.

    Raises UserError where there is none.
    """
    text = str(name)
    if parse(text.rstrip("/").rpartition("/")[2]) is not None:
        return text
    found, _ = newest_complete(text if "://" in text else _root(Path(name)))
    if found is None:
        raise UserError(f"no complete checkpoint in {name}", "name a run, or a folder called step-…")
    return found


def _root(path: Path) -> str:
    """Where the checkpoints of the run at `path` lie, which its recipe says; `path` itself where that is no run."""
    recipe = RunDir(path).recipe
    if recipe.is_file():
        return checkpoint_root(load_recipe(recipe), RunDir(path))
    return str(path / "checkpoints" if (path / "checkpoints").is_dir() else path)


def run_of(name: str | Path) -> Path | None:
    """The folder of the run that a path names, or in which the checkpoint that it names lies; None for a URL, and elsewhere."""
    if "://" in str(name):
        return None
    path = Path(name).resolve()
    if RunDir(path).recipe.is_file():
        return path
    return path.parents[1] if parse(path.name) is not None else None


def export_checkpoint(
    checkpoint: str | Path,
    out: Path,
    *,
    dtype: Dtype | None = None,
    max_shard_bytes: int = 5 * GIGABYTE,
    adapters: bool = False,
    run: Path | None = None,
) -> None:
    """Write weights, config with the labels, tokenizer with its chat template; the checkpoint itself knows all of them.

    `dtype`: that of training if None. `adapters`: these alone, for peft, instead of merged into the model. `run`: the run's
    folder, where the checkpoint does not lie in it. Raises UserError for a damaged checkpoint, a base folder that is gone, or
    a full disk.
    """
    wrong = why_incomplete(checkpoint)
    if wrong:
        raise UserError(f"{checkpoint} is no whole checkpoint: {wrong}", "export an older checkpoint of the run")
    with Checkpoint(checkpoint) as opened:
        state = opened.markers[0].state
        model = state["model"]
        names = list(opened.parameters)
    base = Path(model["folder"])
    if not base.is_dir():
        raise UserError(
            f"the base model is no longer at {base}", "put it back there: config and tokenizer come from it"
        )
    if "hash" in model and model["hash"] not in (model_hash(base), earlier_model_hash(base)):
        raise UserError(
            f"the base model at {base} is no longer what the run began with: config and tokenizer come from it",
            "put its files back as they were",
        )
    dtype = dtype or model["dtype"]
    run = run or run_of(checkpoint)
    # A checkpoint of an earlier version does not know it, but its run does.
    asked = model.get(ASKED) or (
        how_asked(load_recipe(RunDir(run).recipe)) if run and RunDir(run).recipe.is_file() else None
    )
    text = card_of_checkpoint(run, state, adapters=adapters)
    if adapters:
        settings = _adapter_settings(model, names)
        export_adapters(
            checkpoint, out, base, settings=settings, dtype=dtype, add=lambda folder: _write_card(folder, text)
        )
        return

    whole, writes = is_whole_tokenizer(base), not _classifies(model)
    tokenizer = load_tokenizer(base) if not whole or (writes and not _brings_code(base)) else None

    def add(folder: Path) -> None:
        if tokenizer is not None and not whole:
            _write_tokenizer(folder, tokenizer)
        if tokenizer is not None and writes:
            _write_ends(folder, model["config"], tokenizer)
        _write_card(folder, text)

    export(
        checkpoint,
        out,
        base,
        dtype=dtype,
        max_shard_bytes=max_shard_bytes,
        config=model["config"] | ({ASKED: asked} if asked else {}),
        lora_scale=model["lora_scale"],
        add=add,
    )
    if tokenizer is not None and not whole:
        _check_tokenizer(out, tokenizer)


def _write_tokenizer(folder: Path, tokenizer: PreTrainedTokenizerBase) -> None:
    """In place of what the base has beside its own, which transformers would read before it."""
    for path in [path for pattern in BESIDE_TOKENIZER for path in folder.glob(pattern)]:
        path.unlink()
    tokenizer.save_pretrained(str(folder))


def _check_tokenizer(out: Path, trained: PreTrainedTokenizerBase) -> None:
    from transformers import AutoTokenizer

    again = AutoTokenizer.from_pretrained(str(out))
    if again.pad_token_id != trained.pad_token_id or tokenizer_hash(again) != tokenizer_hash(trained):
        raise RuntimeError(f"the tokenizer that transformers reads in {out} is not the one of training")


def _brings_code(base: Path) -> bool:
    """Whether its tokenizer is Python code of its own, which an export does not run."""
    config = base / "tokenizer_config.json"
    return config.is_file() and "auto_map" in json.loads(config.read_text(encoding="utf-8"))


def _write_ends(folder: Path, config: dict[str, Any], tokenizer: PreTrainedTokenizerBase) -> None:
    """Whoever serves the model stops where an answer ends, which a chat template may tell by another token than the base's."""
    closing, path = closing_token(tokenizer), folder / "generation_config.json"
    tokens = {name: config[name] for name in ("bos_token_id", "pad_token_id") if config.get(name) is not None}
    known = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else tokens
    ends = known.get("eos_token_id", config.get("eos_token_id"))
    listed = ends if isinstance(ends, list) else [] if ends is None else [ends]
    if closing is not None and closing not in listed:
        path.write_text(json.dumps({**known, "eos_token_id": [*listed, closing]}, indent=2) + "\n", encoding="utf-8")


def _write_card(folder: Path, text: str | None) -> None:
    if text is not None:
        (folder / "README.md").write_text(text, encoding="utf-8")


def known_dtype(name: str | None) -> Dtype | None:
    """Raises UserError for a name that is none."""
    if name is None:
        return None
    for known in get_args(Dtype):
        if name == known:
            return known
    raise UserError(f"--dtype: {name} is no type of weights", f"use one of {', '.join(get_args(Dtype))}")


def _classifies(model: dict[str, Any]) -> bool:
    return str(model["config"]["architectures"][0]).endswith("SequenceClassification")


def _adapter_settings(model: dict[str, Any], names: list[str]) -> dict[str, Any]:
    """peft's adapter_config.json, from what the checkpoint says of its adapters and the names of its parameters."""
    lora: dict[str, Any] = model.get("lora") or {}
    heads = {without_wrapper(name).partition(".modules_to_save.")[0] for name in names if ".modules_to_save." in name}
    layers = {without_wrapper(name).partition(".lora_A.")[0] for name in names if ".lora_A." in name}
    if lora.get("targets") == ALL_LINEAR:
        layers = {name.rpartition(".")[2] for name in layers}
    return {
        "peft_type": "LORA",
        "task_type": "SEQ_CLS" if _classifies(model) else "CAUSAL_LM",
        "base_model_name_or_path": model["folder"],
        "r": lora.get("rank"),
        "lora_alpha": lora.get("alpha"),
        "lora_dropout": lora.get("dropout", 0.0),
        "use_rslora": lora.get("rank_stabilized", False),
        "use_dora": lora.get("dora", False),
        "target_modules": sorted(layers),
        "modules_to_save": sorted(heads) or None,
        "bias": "none",
        "inference_mode": True,
    }
