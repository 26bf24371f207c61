"""What a run goes on from: its newest complete checkpoint, and whether that is of the same model and tokenizer.

The place of the checkpoints flows in; what a checkpoint says of its run, or a UserError, flows out. The driver asks before
anything is counted or started, and each worker again of the checkpoint that it loads.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from distmed.checkpoint import folder as folders
from distmed.checkpoint.marker import read_marker
from distmed.checkpoint.storage import Storage, pause_s
from distmed.credentials import without_credentials
from distmed.errors import UserError
from distmed.model.hash import earlier_model_hash
from distmed.model.lora import scale
from distmed.recipe import Lora, Recipe
from distmed.values import MISSING, differences, parse


@dataclass(frozen=True)
class Saved:
    """The state in a checkpoint: `run` (RunState), `stream` (its position and identity), `model` (hash, folder, …)."""

    folder: str
    state: dict[str, Any]


def wait_for_storage(checkpoints: str, retry_s: float, tell: Callable[[str], None]) -> None:
    """Until it can be read what lies there, for `retry_s` at most: a job that was requeued has nobody to start it once more.

    What still fails then, or is no fault of a moment (a protocol that is not installed), is left to the checks that name it.
    """
    began, said = time.monotonic(), False
    while True:
        try:
            newest_saved(checkpoints)
            return
        except (ImportError, ValueError):
            return
        except Exception as error:  # every store behind fsspec has errors of its own
            left = began + retry_s - time.monotonic()
            if left <= 0:
                return
            if not said:
                tell(f"{checkpoints} cannot be read ({error}): tried again for {retry_s:g} s (checkpoint.retry_s)")
            said = True
            time.sleep(min(pause_s(retry_s), left))


def newest_saved(checkpoints: str) -> Saved | None:
    """What the newest complete checkpoint says, None if there is none. Its tensors are not read."""
    folder, _ = folders.newest_complete(checkpoints)
    name = folders.parse(Storage.at(folder).name) if folder else None
    if folder is None or name is None:
        return None
    return Saved(folder, read_marker(Storage.at(folder), 0, name.world).state)


def check_same_model(saved: Saved, model_folder: str | Path, model_hash: str, tokenizer_hash: str) -> None:
    """Raises UserError if the checkpoint began with another model or tokenizer than those of `model_folder`."""
    began = saved.state["model"]["hash"]
    if began == model_hash or began == earlier_model_hash(model_folder):
        return
    same_tokenizer = saved.state["stream"]["tokenizer"] == tokenizer_hash
    what = "model" if same_tokenizer else "model and tokenizer"
    raise UserError(
        f"checkpoint {Storage.at(saved.folder).name} was trained from another {what} than {model_folder}",
        f"put back what was in {saved.state['model']['folder']}, or start a new run with another --name",
    )


def check_same_scale(saved: Saved, lora: Lora | None) -> None:
    """Raises UserError if the adapters in the checkpoint were trained with another scale than they would have now."""
    was = saved.state["model"].get("lora_scale")
    if lora is not None and was is not None and scale(lora) != was:
        raise UserError(
            f"the adapters in checkpoint {Storage.at(saved.folder).name} were trained at a scale of {was:g}, "
            f"and model.lora has one of {scale(lora):g} now",
            "set model.lora.alpha and model.lora.rank_stabilized back, or start a new run with another --name",
        )


def changes(earlier: str, recipe: Recipe) -> list[str]:
    """What to tell of a recipe that is no longer the `earlier` one (YAML): a run goes on with what is asked of it now."""
    try:
        before, now = without_credentials(parse(earlier)), without_credentials(parse(recipe.to_yaml()))
    except yaml.YAMLError:
        return ["recipe.yaml of the last start cannot be read: what changed since is not known"]
    # A key that the earlier recipe lacks came with a newer version.
    known = [each for each in differences(before, now) if each.before is not MISSING]
    return [f"changed since the last start: {each.key} from {each.before} to {each.now}" for each in known]


def refuse_leftovers(checkpoints: str) -> None:
    """A new run must not go on from checkpoints that another run of its name left where checkpoints are kept."""
    left = folders.names(checkpoints)
    if left:
        raise UserError(
            f"{checkpoints} holds {len(left)} checkpoints of an earlier run of this name",
            "give another --name, or take them away",
        )
