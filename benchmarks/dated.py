"""What a benchmark prints, kept beside it as a dated file: command, versions and hardware, then its lines as they come.

Another run on the same day adds a section to the file, so that parts can be measured one by one.
"""

from __future__ import annotations

import datetime
import shlex
import sys
from pathlib import Path

FOLDER = Path(__file__).parent
SHOWN = ("torch", "deepspeed", "transformers", "peft", "ray")


class Dated:
    """`benchmarks/NAME_DATE.md`, and the terminal."""

    def __init__(self, name: str, title: str) -> None:
        from distmed.train.hardware import environment

        today = datetime.date.today().isoformat()
        self.path = FOLDER / f"{name}_{today}.md"
        if not self.path.exists():
            self.path.write_text(f"# {title}, {today}\n", encoding="utf-8")
        facts = environment()
        words = [word if not word.startswith("/") else "…/" + word.rsplit("/", 1)[-1] for word in sys.argv[1:]]
        versions = ", ".join(f"{name} {facts['versions'][name]}" for name in SHOWN)
        hardware = f"{facts['cpu']}, {facts['cpu_cores']} cores, {facts['host_memory_gib']} GiB"
        self.line(f"\n## `{shlex.join(['python', f'benchmarks/{name}.py', *words])}`\n")
        self.line(f"{hardware}; {', '.join(facts['gpus']) or 'no GPU'}. Python {facts['python']}, {versions}.\n")

    def line(self, text: str = "") -> None:
        print(text, flush=True)
        with self.path.open("a", encoding="utf-8") as file:
            file.write(text + "\n")

    def table(self, *columns: str) -> None:
        """The head of a table, whose rows follow."""
        self.row(*columns)
        self.row(*("---" for _ in columns))

    def row(self, *cells: object) -> None:
        self.line(f"| {' | '.join(str(cell) for cell in cells)} |")
