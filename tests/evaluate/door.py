"""`distmed evaluate` and `distmed predict` through the user's door, in this process, with the scorers in it, too."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from distmed.cli import main
from distmed.evaluate.pool import Pool, Scorer


class InProcess(Pool):
    """A pool without Ray: the same scorer, the same files."""

    def __enter__(self) -> InProcess:
        self.scorer = Scorer(self._opened, 1, self._shots)
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def facts(self) -> dict[str, Any]:
        return self.scorer.facts()

    def time_alone(self, cases: Any, *, mode: Any) -> None:
        self.speed.latencies = self.scorer.latencies(cases[:2], mode)

    def _run(self, units: Any, numbers: list[int], mode: Any) -> Iterator[Any]:
        for number in numbers:
            yield number, self.scorer.score(units[number], mode)


@contextmanager
def nothing() -> Iterator[None]:
    yield


class Door:
    """`run` a verb to its end; `refuse` one that must end with status 2 and two lines."""

    def __init__(self, folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
        self.folder = folder
        self.capfd = capfd
        self.out = folder / "out"

    def run(self, *words: object, status: int = 0) -> str:
        self.capfd.readouterr()
        with pytest.raises(SystemExit) as ended:
            main([str(word) for word in words])
        out, err = self.capfd.readouterr()
        assert (ended.value.code or 0) == status, out + err
        return out + err

    def evaluate(self, model: object, data: object, *words: object) -> dict[str, Any]:
        """The metrics of a finished evaluation."""
        self.said = self.run("evaluate", model, "--data", data, "--out", self.out, *words)
        metrics: dict[str, Any] = json.loads((self.out / "metrics.json").read_text())
        return metrics

    def refuse(self, *words: object) -> tuple[str, str]:
        """(what is wrong, how to mend it)."""
        said = self.run(*words, status=2)
        assert "Traceback" not in said
        error, fix = said.strip().splitlines()[-2:]
        assert error.startswith("error: ") and fix.startswith("  fix: "), said
        return error.removeprefix("error: "), fix.removeprefix("  fix: ")
