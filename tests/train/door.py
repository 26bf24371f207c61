"""`distmed train` through the user's door, in this process: what it says, and what it leaves behind."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest

from distmed.cli import main

NAME = "small"
SMALL = [
    f"name={NAME}",
    "data.train.0.limit=100",
    "data.eval.0.limit=30",
    "data.seq_len=128",
    "train.global_batch=8",
    "train.max_steps=10",
    "train.log_every=1",
    "train.eval_every=10",
    "train.linear_floor=false",
    "checkpoint.every=4",
]


@dataclass(frozen=True)
class Refusal:
    """The two lines: what is wrong, and how to mend it."""

    message: str
    hint: str


def refusal_in(out: str, err: str) -> Refusal:
    """The two lines in the output; they are the last, and there is no traceback."""
    assert "Traceback" not in out + err, out + err
    assert (out + err).count("error: ") == 1, out + err
    error, fix = err.strip().splitlines()[-2:]
    assert error.startswith("error: ") and fix.startswith("  fix: "), err
    return Refusal(error.removeprefix("error: "), fix.removeprefix("  fix: "))


class Door:
    """`distmed train` in `folder`, with the small run's settings."""

    def __init__(self, folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
        self.folder = folder
        self.capfd = capfd
        self.settings = SMALL

    def status(self, *arguments: str) -> int:
        with pytest.raises(SystemExit) as ended:
            main(["train", *self.settings, *arguments])
        assert isinstance(ended.value.code, int)
        return ended.value.code

    def refuse(self, *arguments: str) -> Refusal:
        """It ends with status 2 and two lines, and no file came, went or changed."""
        before = self.files()
        self.capfd.readouterr()
        status = self.status(*arguments)
        out, err = self.capfd.readouterr()
        assert status == 2, out + err
        assert self.files() == before
        return refusal_in(out, err)

    def files(self) -> dict[Path, tuple[int, int]]:
        """Size and time of every file, but for the log and the token cache of a run that goes on."""
        goes_on = [run.parent for run in self.folder.glob("runs/*/recipe.yaml")]
        aside = tuple(f"{run}/{name}" for run in goes_on for name in ("log.txt", "data/"))
        found = [path for path in self.folder.rglob("*") if path.is_file() and not str(path).startswith(aside)]
        return {path: (path.stat().st_size, path.stat().st_mtime_ns) for path in found}
