"""`distmed prepare` through the user's door, and tables to prepare."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from distmed.cases.case import Case
from distmed.cli import main
from distmed.prepare.deidentify import Deidentifier
from distmed.prepare.manifest import Manifest
from distmed.prepare.shards import read_cases_of
from tests.train.door import Refusal, refusal_in

_WORDS = """
patient reports fever cough pain swelling rash fatigue nausea dizziness since week after meal walking rest
night morning with mild severe sudden gradual left right upper lower back chest head knee ankle wrist no
history of surgery smoking allergy travel contact
"""
WORDS = _WORDS.split()


@dataclass(frozen=True)
class Prepared:
    """What a run left: its output and its folder."""

    said: str
    folder: Path

    @property
    def report(self) -> dict[str, Any]:
        return json.loads((self.folder / "report.json").read_text())

    def cases(self, split: str = "") -> list[Case]:
        return list(read_cases_of(Manifest.read(self.folder / split)))

    def shards(self) -> dict[str, bytes]:
        return {str(p.relative_to(self.folder)): p.read_bytes() for p in sorted(self.folder.rglob("*.parquet"))}


class PrepareDoor:
    """`distmed prepare` in this process, without processes of its own."""

    def __init__(self, capfd: pytest.CaptureFixture[str]) -> None:
        self.capfd = capfd

    def __call__(self, *arguments: object, out: Path) -> Prepared:
        status, said, err = self._run(*arguments, out=out)
        assert status == 0, said + err
        return Prepared(said, out)

    def refuse(self, *arguments: object, out: Path) -> Refusal:
        """It ends with status 2 and two lines, and leaves no finished folder."""
        status, said, err = self._run(*arguments, out=out)
        assert status == 2, said + err
        return refusal_in(said, err)

    def _run(self, *arguments: object, out: Path) -> tuple[int, str, str]:
        self.capfd.readouterr()
        words = ["prepare", *map(str, arguments), "--out", str(out)]
        with pytest.raises(SystemExit) as ended:
            main(words if "--num-workers" in words else [*words, "--num-workers", "1"])
        said, err = self.capfd.readouterr()
        return int(ended.value.code or 0), said, err


@pytest.fixture(scope="session")
def deidentifier() -> Deidentifier:
    pytest.importorskip("presidio_analyzer", reason="the extra `privacy` is not installed")
    return Deidentifier()


def case(text: str, **more: object) -> Case:
    return dataclasses.replace(Case(id="c", kind="diagnosis", group="g", text=text), **more)  # type: ignore[arg-type]


def public(deidentifier: Deidentifier, text: str) -> str:
    return deidentifier(case(text))[0].text


@pytest.fixture
def prepare(capfd: pytest.CaptureFixture[str]) -> PrepareDoor:
    return PrepareDoor(capfd)


@pytest.fixture
def table(tmp_path: Path) -> Callable[..., Path]:
    """Writes rows as JSON lines and says where."""

    def write(rows: Iterable[dict[str, Any]], name: str = "notes.jsonl") -> Path:
        path = tmp_path / name
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        return path

    return write


def note(number: int, words: int = 40) -> str:
    """A text of its own for every number, of words alone."""
    state = number * 2654435761 + 12345
    chosen = []
    for _ in range(words):
        state = (state * 6364136223846793005 + 1442695040888963407) % 2**64
        chosen.append(WORDS[(state >> 33) % len(WORDS)])
    return " ".join(chosen)


def rows_of(count: int, *, labels: int = 4, per_patient: int = 3) -> list[dict[str, Any]]:
    return [
        {
            "text": note(n),
            "label": f"D{n // per_patient % labels}",
            "patient": f"P{n // per_patient}",
            "seen": f"{2018 + n // per_patient % 5}-06-01",
        }
        for n in range(count)
    ]
