"""From what a person names, a run or one of its checkpoints, to a plain Hugging Face folder.

A path flows in; the checkpoint it stands for, and a folder that transformers opens without distmed, flow out.
"""

from __future__ import annotations

from pathlib import Path

from distmed.checkpoint.export import export
from distmed.checkpoint.folder import newest_complete, parse
from distmed.checkpoint.read import Checkpoint
from distmed.errors import UserError
from distmed.model.load import load_tokenizer


def find_checkpoint(path: Path) -> str:
    """The checkpoint that `path` is, or else the newest complete one of the run (or of the folder of checkpoints) there."""
    if parse(path.name) is not None:
        return str(path)
    found, _ = newest_complete(path / "checkpoints" if (path / "checkpoints").is_dir() else path)
    if found is None:
        raise UserError(f"no complete checkpoint in {path}", "name a run, or a folder called step-…")
    return found


def export_checkpoint(checkpoint: str | Path, out: Path) -> None:
    """Write weights, config with the labels, tokenizer with its chat template; the checkpoint itself knows all of them.

    Raises UserError for a damaged checkpoint, a base folder that is gone, or a full disk.
    """
    with Checkpoint(checkpoint) as opened:
        model = opened.markers[0].state["model"]
    base = Path(model["folder"])
    if not base.is_dir():
        raise UserError(
            f"the base model is no longer at {base}", "put it back there: config and tokenizer come from it"
        )
    export(checkpoint, out, base, dtype=model["dtype"], config=model["config"], lora_scale=model["lora_scale"])
    load_tokenizer(base).save_pretrained(str(out))
