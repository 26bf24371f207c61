"""The files of a model folder that hold its weights, and what each says of them.

A folder flows in; its safetensors files, and the header of each, flow out. No weight is read.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from distmed.errors import UserError

INDEX = "model.safetensors.index.json"


def weight_files(folder: Path) -> list[Path]:
    """The safetensors files of a model folder, as transformers chooses: the single one or, without it, those that the index
    names, which may be missing."""
    if (folder / "model.safetensors").is_file():
        return [folder / "model.safetensors"]
    if not (folder / INDEX).is_file():
        return []
    try:
        weight_map = json.loads((folder / INDEX).read_text(encoding="utf-8"))["weight_map"]
    except (ValueError, KeyError) as error:
        raise UserError(f"{folder / INDEX} is no index of weights", "fetch the model again") from error
    return [folder / name for name in sorted(set(weight_map.values()))]


def header(path: Path) -> tuple[dict[str, Any], int]:
    """Type, shape and place of each tensor by its name, and the byte of the file at which all their bytes begin.

    Raises ValueError where it is no safetensors file.
    """
    with path.open("rb") as file:
        start = file.read(8)
        length = int.from_bytes(start, "little")
        if len(start) < 8 or length > path.stat().st_size:
            raise ValueError(f"{path} does not begin with a header")
        tensors: dict[str, Any] = json.loads(file.read(length))
    tensors.pop("__metadata__", None)
    return tensors, 8 + length
