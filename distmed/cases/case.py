"""Case: the one record type that every data set becomes.

Rows of any format flow in (`formats.py`), prompts and tokens flow out (`prompts.py`). Three kinds: `diagnosis` (findings or a
vignette -> a disease), `choice` (an exam question with options), `dialogue` (messages, the last of them the answer).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

Kind = Literal["diagnosis", "choice", "dialogue"]
Sex = Literal["female", "male"]


@dataclass(frozen=True, slots=True)
class Case:
    """One patient, question or conversation.

    `label` is the key over which a classifier chooses and which metrics compare (an OMIM id, an option letter, "yes");
    `label_name` is what a reader sees and what a model writes. `findings` and `excluded` are kept apart from `text`, so that
    they can be dropped and shuffled in training. `group` is the unit that must not be split: patient, paper or site.
    """

    id: str
    kind: Kind
    group: str
    text: str = ""
    findings: tuple[str, ...] = ()
    excluded: tuple[str, ...] = ()
    sex: Sex | None = None
    age_years: float | None = None
    label: str | None = None
    label_name: str | None = None
    options: tuple[str, ...] = ()
    messages: tuple[tuple[str, str], ...] = ()
    differential: tuple[tuple[str, float], ...] = ()
    subgroups: dict[str, str] = field(default_factory=dict)

    def to_row(self) -> dict[str, Any]:
        """The case as plain Python values, one column a field: what a Parquet shard holds."""
        row = dataclasses.asdict(self)
        row["messages"] = [{"role": role, "content": content} for role, content in self.messages]
        row["differential"] = [{"label": label, "probability": p} for label, p in self.differential]
        row["subgroups"] = [{"name": name, "value": value} for name, value in sorted(self.subgroups.items())]
        return row

    @classmethod
    def from_row(cls, row: dict[str, Any]) -> Case:
        """The inverse of `to_row`: `Case.from_row(case.to_row()) == case`."""
        return cls(
            **{
                **row,
                "findings": tuple(row["findings"]),
                "excluded": tuple(row["excluded"]),
                "options": tuple(row["options"]),
                "messages": tuple((m["role"], m["content"]) for m in row["messages"]),
                "differential": tuple((d["label"], d["probability"]) for d in row["differential"]),
                "subgroups": {s["name"]: s["value"] for s in row["subgroups"]},
            }
        )


class Asked(NamedTuple):
    """What of a case a prompt depends on, by the same names: many are made in no time."""

    id: str
    kind: str
    text: str
    findings: Sequence[str]
    excluded: Sequence[str]
    sex: str | None
    age_years: float | None
    label_name: str | None
    options: Sequence[str]
    messages: Sequence[tuple[str, str]]
