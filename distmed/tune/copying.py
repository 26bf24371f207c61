"""Copies of checkpoints and models: by links where source and copy lie on one disk, byte by byte elsewhere."""

from __future__ import annotations

import os
import shutil
import time
from pathlib import Path

from distmed.checkpoint import folder as folders
from distmed.checkpoint.storage import READ_BYTES, Storage
from distmed.errors import UserError

CLONE_WAIT_S = 300


def copy_checkpoint(source: str, root: str) -> str:
    """Copy a complete checkpoint folder to below another root, by links where both are on one disk; its new path.

    Waits for a folder that is still being written. Raises UserError where it does not become complete.
    """
    deadline = time.monotonic() + CLONE_WAIT_S
    while (wrong := folders.why_incomplete(source)) is not None:
        if time.monotonic() > deadline:
            raise UserError(f"the checkpoint to copy, {source}, is not complete: {wrong}", "raise checkpoint.keep")
        time.sleep(0.25)
    old, new = Storage.at(source), Storage.at(root) / Storage.at(source).name
    # Markers last: a copy that was cut short is not taken for whole.
    for name in sorted(old.children(), key=lambda name: (name.endswith(".json"), name)):
        if old.is_local and new.is_local:
            Path(new.path).mkdir(parents=True, exist_ok=True)
            link(Path(old.path) / name, Path(new.path) / name)
        else:
            with (
                new.filesystem.open((new / name).path, "wb") as out,
                old.filesystem.open((old / name).path, "rb") as read,
            ):
                while part := read.read(READ_BYTES):
                    out.write(part)
    return str(new)


def link(old: str | Path, new: str | Path) -> None:
    """`new` becomes what `old` is."""
    Path(new).unlink(missing_ok=True)
    try:
        os.link(old, new)
    except OSError:
        shutil.copy2(old, new)
