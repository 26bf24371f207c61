"""docs/evidence.md explains every figure."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from distmed.evaluate.metrics import METRICS
from distmed.evaluate.report.words import WORDS

PAGE = Path(__file__).parents[2] / "docs" / "evidence.md"
# Written once for several figures.
FAMILIES = (
    (r"^gtpa_at_\d$", "gtpa_at_k"),
    (r"^accuracy_at_\d+$", "accuracy_at_80"),
    (r"_realized_\d+$", "_realized_…"),
)


def explained() -> set[str]:
    """The names in the first column of the tables."""
    lines = PAGE.read_text(encoding="utf-8").splitlines()
    named = re.findall(r"`([^`]+)`", " ".join(line.split("|")[1] for line in lines if line.startswith("|")))
    return {name.rpartition(".")[2] for name in named}


@pytest.mark.parametrize("name", WORDS)
def test_every_figure_of_the_report_is_explained(name):
    for pattern, family in FAMILIES:
        name = re.sub(pattern, family, name)
    assert name in explained()


def test_the_figures_of_training_are_listed():
    section = PAGE.read_text(encoding="utf-8").partition("## Inside training")[2]
    assert {
        name for name in METRICS if name.removeprefix("diag/") not in re.findall(r"`(?:diag/)?(\w+)`", section)
    } == set()
