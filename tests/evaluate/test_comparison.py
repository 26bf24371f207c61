"""Comparisons of two models: each against a hand-worked case or the library's own function."""

from __future__ import annotations

import numpy as np
import pytest

from distmed.evaluate.bootstrap import draws
from distmed.evaluate.comparison import compare, holm, mcnemar
from distmed.evaluate.sample import Sample


def test_mcnemar_equals_scipy():
    from scipy.stats import binomtest

    this = np.array([True] * 30 + [False] * 5 + [True] * 12 + [False] * 3)
    other = np.array([True] * 30 + [True] * 5 + [False] * 12 + [False] * 3)
    alone = [str(n) for n in range(50)]
    found = mcnemar(this, other, alone)
    assert (found["only_this"], found["only_other"]) == (12, 5)
    assert found["p"] == pytest.approx(binomtest(5, 17).pvalue)
    assert found["method"] == "exact McNemar"
    assert mcnemar(this, this, alone)["p"] == 1


def test_cases_of_few_papers_are_compared_paper_by_paper():
    """By hand: papers differ by 5, 3 and -1 cases: 4 of the 8 ways to give signs reach their sum of 7."""
    this = np.array([True] * 5 + [True] * 3 + [False, True, True])
    other = np.array([False] * 5 + [False] * 3 + [True, True, True])
    found = mcnemar(this, other, ["a"] * 5 + ["b"] * 3 + ["c"] * 3)
    assert (found["only_this"], found["only_other"]) == (8, 1)
    assert found["p"] == found["p_holm"] == 4 / 8
    assert found["method"] == "exact sign-flip permutation over 3 groups"
    # All of one paper: nothing can be said, however many cases it has.
    assert mcnemar(this, other, ["a"] * 11)["p"] == 1


def test_the_permutation_over_groups_equals_scipy_and_mcnemar():
    from scipy.stats import permutation_test

    random = np.random.default_rng(0)
    this, other = random.random((2, 60)) < [[0.8], [0.5]]
    groups = [f"paper {n // 5}" for n in range(60)]
    change_G = np.array([(this[n : n + 5].astype(int) - other[n : n + 5]).sum() for n in range(0, 60, 5)])
    theirs = permutation_test(
        (change_G, np.zeros_like(change_G)), lambda a, b: (a - b).sum(), permutation_type="samples", n_resamples=np.inf
    )
    assert mcnemar(this, other, groups)["p"] == pytest.approx(theirs.pvalue)
    # One case of each paper differs at most: then both tests are one.
    lone = [f"paper {n}" for n in range(59)] + ["paper 0"]
    this[59] = other[59] = True
    assert mcnemar(this, other, lone)["p"] == pytest.approx(mcnemar(this, other, [str(n) for n in range(60)])["p"])


def test_groups_follow_the_cases_that_a_sample_sorts(drawn):
    cases = drawn()
    other_NK = np.random.default_rng(1).permutation(cases.probabilities_NK)
    this, other = Sample(cases.probabilities_NK, cases.gold_N), Sample(other_NK, cases.gold_N)
    right = [p_NK.argmax(axis=1) == cases.gold_N for p_NK in (cases.probabilities_NK, other_NK)]
    found = compare(this, other, draws(cases.groups, 50), cases.groups)["mcnemar"]
    assert found == mcnemar(*right, cases.groups) and "60 groups" in found["method"]


def test_holm_over_all_comparisons_by_hand():
    rows = [{"mcnemar": {"p": p}} for p in (0.01, 0.04, 0.03)]
    holm(rows)
    assert [row["mcnemar"]["p_holm"] for row in rows] == pytest.approx([0.03, 0.06, 0.06])


def test_paired_differences_are_narrower_than_unpaired_ones(drawn):
    cases = drawn(400)
    # A second model that says the same but for a little noise.
    noise = np.random.default_rng(1).dirichlet(np.ones(8), 400)
    other_NK = 0.97 * cases.probabilities_NK + 0.03 * noise
    this, other = Sample(cases.probabilities_NK, cases.gold_N), Sample(other_NK, cases.gold_N)
    weights_BN = draws(cases.groups, 300)
    found = compare(this, other, weights_BN, cases.groups)
    top1 = found["figures"]["top1"]
    assert top1["difference"]["value"] == pytest.approx(top1["this"] - top1["other"])
    low, high = np.percentile(this.values(weights_BN)["top1"], [2.5, 97.5])
    assert top1["difference"]["high"] - top1["difference"]["low"] < (high - low) / 2
    assert set(found["figures"]) == {
        "top1", "top3", "top5", "macro_f1", "balanced_accuracy", "mcc", "auroc_macro", "auprc_macro",
        "nll", "brier", "ece", "ece_mass", "aurc",
    }  # fmt: skip


def test_a_model_against_itself_differs_by_nothing(drawn):
    cases = drawn()
    sample = Sample(cases.probabilities_NK, cases.gold_N)
    for figure in compare(sample, sample, draws(cases.groups, 50), cases.groups)["figures"].values():
        difference = figure["difference"]
        assert difference["value"] == difference["low"] == difference["high"] == 0
