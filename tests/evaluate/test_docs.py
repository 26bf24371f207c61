"""docs/evidence.md explains every figure, and docs/footguns.md every trap that it promises."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from distmed.evaluate.metrics import METRICS
from distmed.evaluate.report.words import WORDS

DOCS = Path(__file__).parents[2] / "docs"
# Written once for several figures.
FAMILIES = (
    (r"^gtpa_at_\d$", "gtpa_at_k"),
    (r"^accuracy_at_\d+$", "accuracy_at_80"),
    (r"_realized_\d+$", "_realized_…"),
)


def explained() -> set[str]:
    """The names in the first column of the tables."""
    lines = (DOCS / "evidence.md").read_text(encoding="utf-8").splitlines()
    named = re.findall(r"`([^`]+)`", " ".join(line.split("|")[1] for line in lines if line.startswith("|")))
    return {name.rpartition(".")[2] for name in named}


@pytest.mark.parametrize("name", WORDS)
def test_every_figure_of_the_report_is_explained(name):
    for pattern, family in FAMILIES:
        name = re.sub(pattern, family, name)
    assert name in explained()


def test_the_figures_of_training_are_listed():
    section = (DOCS / "evidence.md").read_text(encoding="utf-8").partition("## Inside training")[2]
    assert {
        name for name in METRICS if name.removeprefix("diag/") not in re.findall(r"`(?:diag/)?(\w+)`", section)
    } == set()


@pytest.mark.parametrize(
    "trap", ["both sides of a split", "template", "tokenize", "cannot be read", "`cop` counts from 1 or from 0"]
)
def test_the_page_of_footguns_has_its_traps(trap):
    assert trap in (DOCS / "footguns.md").read_text(encoding="utf-8")
