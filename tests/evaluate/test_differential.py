"""Differential diagnoses by DDXPlus' definitions: hand-worked, and on its patients answered perfectly and not at all."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from distmed.cases.read import read_cases
from distmed.evaluate.bootstrap import draws
from distmed.evaluate.differential import THRESHOLD, differential_figures
from distmed.recipe import Source


def test_differential_figures_by_hand():
    # Two patients, four diseases. The first: gold {0, 1, 2}, predicted {0, 1}; the second: gold {3, one the model does not
    # know}, predicted {0, 3}.
    probabilities = np.array([[0.6, 0.395, 0.005, 0.0], [0.7, 0.001, 0.0, 0.299]], np.float32)
    gold = np.array([1, 3])
    differentials = [{0: 0.5, 1: 0.3, 2: 0.2, 3: 0.005}, {3: 0.6, -1: 0.4}]
    severity = np.array([1.0, 5.0, 3.0, 2.0])
    weights = np.ones((4, 2), np.float32)
    found = differential_figures(probabilities, gold, differentials, severity, weights, groups=["a", "b"])
    assert found["gtpa"]["value"] == 1
    assert found["gtpa_at_1"]["value"] == 0 and found["gtpa_at_3"]["value"] == 1
    ddr, ddp = (2 / 3 + 1 / 2) / 2, (2 / 2 + 1 / 2) / 2
    assert found["ddr"]["value"] == pytest.approx(ddr)
    assert found["ddp"]["value"] == pytest.approx(ddp)
    # Of each patient, then the mean: 2 x 2/3 x 1 / (5/3) and 1/2. Not the harmonic mean of the two means, which is larger.
    assert found["ddf1"]["value"] == pytest.approx((4 / 5 + 1 / 2) / 2)
    # Severe are diseases 0 and 3: one of one found, and one of one.
    assert found["dsr"]["value"] == 1
    # Weights 6 - severity: 5, 1, 3 of which 5 and 1 are found; and 4 of 4.
    assert found["severity_recall"]["value"] == pytest.approx((6 / 9 + 1) / 2)
    assert found["ddf1"]["source"].endswith("2205.09148")


def test_a_disease_that_ranks_third_below_the_threshold_is_not_in_the_differential():
    probabilities = np.array([[0.6, 0.392, 0.008, 0.0]], np.float32)
    found = differential_figures(
        probabilities, np.array([2]), [{2: 1.0}], None, np.ones((4, 1), np.float32), groups=["a"]
    )
    assert [found[name]["value"] for name in ("gtpa", "gtpa_at_1", "gtpa_at_3", "gtpa_at_5")] == [0, 0, 0, 0]


def test_cases_without_a_severe_disease_do_not_count_for_its_recall():
    probabilities = np.array([[0.9, 0.1], [0.9, 0.1]], np.float32)
    given = (np.array([0, 1]), [{0: 1.0}, {1: 1.0}])
    found = differential_figures(
        probabilities, *given, np.array([4.0, 1.0]), np.ones((4, 2), np.float32), groups=["a", "b"]
    )
    assert (found["dsr"]["value"], found["dsr"]["n"]) == (1, 1)
    mild = differential_figures(
        probabilities, *given, np.array([4.0, 5.0]), np.ones((4, 2), np.float32), groups=["a", "b"]
    )
    assert mild["dsr"]["value"] is None and mild["severity_recall"]["value"] == 1


def test_real_patients_answered_by_their_own_differential_and_by_every_disease(shared_data: Path):
    source = Source(source=str(shared_data / "ddxplus" / "ddxplus_fewshot_98_en.jsonl"), format="ddxplus")
    cases = list(read_cases(source))
    place = {label: k for k, label in enumerate(sorted({label for case in cases for label, _ in case.differential}))}
    differentials = [{place[label]: p for label, p in case.differential} for case in cases]
    own_NK = np.array([[own.get(k, 0.0) for k in range(len(place))] for own in differentials])
    every_NK = np.full_like(own_NK, 1 / len(place))
    gold_N, weights_BN = np.array([place[str(case.label)] for case in cases]), np.ones((2, len(cases)), np.float32)
    own, every = (
        differential_figures(scores_NK, gold_N, differentials, None, weights_BN, [case.id for case in cases])
        for scores_NK in (own_NK, every_NK)
    )
    assert [own[name]["value"] for name in ("gtpa", "ddr", "ddp", "ddf1")] == [1, 1, 1, 1]
    assert own["gtpa"]["n"] == len(cases) == 98 and len(place) == 49
    assert [every[name]["value"] for name in ("gtpa", "ddr")] == [1, 1]
    assert every["ddp"]["value"] == pytest.approx((own_NK > THRESHOLD).mean())


def test_a_figure_whose_cases_are_all_of_one_group_has_no_interval_and_says_so():
    # Only the papers b and c have no differential of a severe disease: dsr is over paper a alone, ddr over all three.
    probabilities = np.array([[0.9, 0.1], [0.9, 0.1], [0.5, 0.5], [1.0, 0.0]], np.float32)
    differentials = [{1: 1.0}, {1: 0.5, 0: 0.5}, {0: 1.0}, {0: 1.0}]
    groups = ["a", "a", "b", "c"]
    found = differential_figures(
        probabilities, np.array([1, 1, 0, 0]), differentials, np.array([4.0, 1.0]), draws(groups), groups=groups
    )
    assert found["dsr"]["n"] == 2 and found["dsr"]["low"] is found["dsr"]["high"] is None
    assert found["dsr"]["method"] == "no interval: one group"
    assert found["ddp"]["low"] < found["ddp"]["high"]
