"""The report of a run of `prepare`: how many cases went in, out, and by which rule they were dropped, as JSON and a table.

Counts flow in from the stages, `report.json` and a printed table flow out. Cases are named by file and line only.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, TextIO

from rich import box
from rich.console import Console
from rich.table import Table

from distmed.errors import UserError

REPORT = "report.json"
OVERLAPS = "overlaps.jsonl"
VERSION = 1


@dataclass(frozen=True)
class Report:
    """`rows`: read from the sources; `dropped`: by stage, then by rule; `splits`: name (empty: no split) -> figures, with
    `rows` in it, `augmented` of these, `groups`, `labels` and the manifest's `hash`; `identifiers`: replaced, by type."""

    fingerprint: str
    settings: dict[str, Any]
    versions: dict[str, str]
    rows: int
    dropped: dict[str, dict[str, int]]
    splits: dict[str, dict[str, Any]]
    identifiers: dict[str, int] = field(default_factory=dict)
    clusters: int = 0
    conflicts: int = 0
    boilerplate: int = 0

    @property
    def written(self) -> int:
        """Cases in all shards, augmented ones included: rows - all dropped + all augmented."""
        return sum(split["rows"] for split in self.splits.values())

    def write(self, out: Path) -> None:
        """Put `report.json` there at once: it says that all is done."""
        part = out / f".{REPORT}"
        part.touch(0o600)
        part.write_text(json.dumps({"version": VERSION, **asdict(self)}, indent=1, ensure_ascii=False) + "\n", "utf-8")
        part.replace(out / REPORT)

    @classmethod
    def read(cls, out: Path) -> Report | None:
        """The report of a finished folder; None where none is. Raises UserError if it is no report."""
        path = out / REPORT
        if not path.is_file():
            return None
        try:
            values = json.loads(path.read_text(encoding="utf-8"))
            values.pop("version")
            return cls(**values)
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise UserError(f"{path} is no report of `distmed prepare`", "name another folder for --out") from error

    def show(self, out: Path, terminal: TextIO) -> None:
        """The table a person reads."""
        console = Console(file=terminal, width=None if terminal.isatty() else 100)
        table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
        table.add_column("stage")
        table.add_column("cases", justify="right")
        table.add_row("rows read", f"{self.rows:,}")
        for stage, rules in self.dropped.items():
            for rule, count in rules.items():
                table.add_row(f"{stage}: {rule}", f"-{count:,}")
        augmented = sum(split["augmented"] for split in self.splits.values())
        if augmented:
            table.add_row("augment: added", f"+{augmented:,}")
        table.add_row("cases written", f"{self.written:,}", end_section=True)
        for name, split in self.splits.items():
            if name:
                table.add_row(
                    f"{name} ({split['groups']:,} groups, {len(split['labels'])} labels)", f"{split['rows']:,}"
                )
        console.print(table)
        if self.settings["deidentify"]:
            found = ", ".join(f"{count:,} {kind}" for kind, count in self.identifiers.items())
            console.print(f"identifiers replaced: {found or 'none'}", highlight=False)
        if self.settings["deduplicate"]:
            said = f"{self.clusters:,} clusters of duplicates; {self.conflicts:,} texts under several labels (kept)"
            console.print(said, highlight=False)
        if self.settings["without"]:
            console.print(
                f"overlaps  {out / OVERLAPS} ({self.boilerplate:,} runs ignored as boilerplate)", soft_wrap=True
            )
        console.print(f"report    {out / REPORT}", soft_wrap=True, highlight=False)
