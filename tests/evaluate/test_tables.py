"""Diseases, subgroups and curves: each against a hand-worked case or the library's own function."""

from __future__ import annotations

import numpy as np
import pytest

from distmed.evaluate.bootstrap import draws, share
from distmed.evaluate.curves import curves
from distmed.evaluate.diseases import confusion, per_disease, ppv_at
from distmed.evaluate.figure import limits_to_read
from distmed.evaluate.sample import Sample
from distmed.evaluate.subgroups import UNKNOWN, subgroup_accuracy, subgroup_figures


def answers(predicted: list[int], classes: int) -> np.ndarray:
    """Probabilities of a model that is 70 % sure of each answer."""
    other = 0.3 / (classes - 1)
    return np.where(np.arange(classes) == np.array(predicted)[:, None], 0.7, other).astype(np.float32)


# ------------------------------------------------------------------ diseases

GOLD = np.array([0] * 12 + [1] * 6 + [2] * 2)
PREDICTED = [0] * 9 + [1] * 3 + [1] * 5 + [0] + [1, 2]
GROUPS = [f"paper {n // 3}" for n in range(18)] + ["paper 9"] * 2
LABELS, NAMES = ["OMIM:1", "OMIM:2", "OMIM:3", "OMIM:4"], ["gout", "flu", "cold", "plague"]


def disease_table(probabilities_NK, gold_N, groups, labels=LABELS, names=NAMES, small_cells=True):
    return per_disease(
        Sample(probabilities_NK, gold_N), labels, names, groups, draws(groups, 200), small_cells=small_cells
    )


@pytest.fixture
def rows():
    return disease_table(answers(PREDICTED, 4), GOLD, GROUPS)


def test_a_row_of_the_disease_table_by_hand(rows):
    gout = rows[0]
    assert gout["label"] == "OMIM:1" and gout["name"] == "gout" and gout["n"] == 12 and not gout["few"]
    assert gout["sensitivity"]["value"] == 9 / 12
    assert gout["specificity"]["value"] == 7 / 8
    assert gout["ppv"]["value"] == 9 / 10
    assert gout["npv"]["value"] == 7 / 10
    assert gout["f1"]["value"] == pytest.approx(2 * 9 / (12 + 10))
    assert gout["prevalence"] == 12 / 20
    assert rows[2]["few"]


def test_proportions_of_a_disease_have_the_intervals_of_their_groups(rows):
    said_N = np.array(PREDICTED)
    gold_N, groups, weights_BN = GOLD, np.array(GROUPS, dtype=object), draws(GROUPS, 200)
    for name, of_N, hit_N in (
        ("sensitivity", gold_N == 0, said_N == 0),
        ("specificity", gold_N != 0, said_N != 0),
        ("ppv", said_N == 0, gold_N == 0),
        ("npv", said_N != 0, gold_N != 0),
    ):
        assert rows[0][name] == pytest.approx(share(hit_N[of_N], weights_BN[:, of_N], groups[of_N].tolist())), name
    assert limits_to_read(rows[0]["sensitivity"]) != (rows[0]["sensitivity"]["low"], rows[0]["sensitivity"]["high"])
    assert limits_to_read(rows[2]["sensitivity"]) == (None, None)


def test_a_disease_that_no_case_has_is_undefined_and_neither_zero_nor_a_crash(rows):
    plague = rows[3]
    assert plague["n"] == 0
    for name in ("sensitivity", "auroc", "auprc", "ppv", "f1"):
        assert plague[name]["value"] is None and plague[name]["why"] == "undefined, n=0"
    assert plague["specificity"]["value"] == 1


def test_a_disease_of_two_patients_is_named_and_no_more():
    told = disease_table(answers(PREDICTED, 4), GOLD, GROUPS, small_cells=False)
    cold = told[2]
    assert cold["name"] == "cold" and cold["suppressed"] and cold["n"] is None
    assert all(cold[name]["value"] is None for name in ("sensitivity", "ppv", "auroc", "f1"))
    # Nobody has the plague, which tells of no one.
    assert told[3]["n"] == 0 and not told[3]["suppressed"]


def test_areas_of_the_disease_table_equal_scikit_learn(drawn):
    from sklearn.metrics import average_precision_score, roc_auc_score

    cases = drawn()
    letters = list("abcdefgh")
    found = disease_table(cases.probabilities_NK, cases.gold_N, cases.groups, letters, letters)
    for k, row in enumerate(found):
        truth, score = cases.gold_N == k, cases.probabilities_NK[:, k]
        assert row["auroc"]["value"] == pytest.approx(roc_auc_score(truth, score), abs=1e-6)
        assert row["auprc"]["value"] == pytest.approx(average_precision_score(truth, score), abs=1e-6)


@pytest.mark.slow
def test_intervals_of_one_disease_are_those_of_its_draws(drawn):
    from sklearn.metrics import f1_score, roc_auc_score

    cases = drawn(60, 3)
    weights_BN = draws(cases.groups, 200)
    row = disease_table(cases.probabilities_NK, cases.gold_N, cases.groups, list("abc"), list("abc"))[1]
    area, f1 = [], []
    for weight_N in weights_BN:
        n = np.repeat(np.arange(60), weight_N.astype(int))
        truth, score, said = (
            cases.gold_N[n] == 1,
            cases.probabilities_NK[n, 1],
            cases.probabilities_NK[n].argmax(axis=1),
        )
        area.append(roc_auc_score(truth, score))
        f1.append(f1_score(truth, said == 1))
    for name, values in (("auroc", area), ("f1", f1)):
        assert (row[name]["low"], row[name]["high"]) == pytest.approx(np.percentile(values, [2.5, 97.5]), abs=1e-5)
        assert row[name]["method"] == "bootstrap by group, 200 draws"


def test_a_disease_of_one_paper_has_no_interval_for_its_areas(rows):
    assert rows[2]["auroc"]["low"] is None and rows[2]["auroc"]["method"] == "no interval: one group"


def test_predictive_value_at_a_stated_prevalence():
    # Sensitivity and specificity 90 %, 1 in 100 ill: 9 of 108 positives are right.
    assert ppv_at(0.9, 0.9, 0.01) == pytest.approx(0.9 / (0.9 + 9.9))
    assert ppv_at(None, 0.9, 0.01) is None
    assert ppv_at(0.0, 1.0, 0.01) is None


def test_predictive_value_at_a_stated_prevalence_is_as_uncertain_as_the_specificity(rows):
    gout, plague = rows[0], rows[3]
    both = zip(limits_to_read(gout["sensitivity"]), limits_to_read(gout["specificity"]), strict=True)
    low, high = (ppv_at(*ends, 0.01) for ends in both)
    assert (gout["ppv_at"]["low"], gout["ppv_at"]["high"]) == (low, high) and gout["ppv_at"]["n"] == 20
    assert plague["ppv_at"]["value"] is None and plague["ppv_at"]["why"] == "undefined, n=0"


def test_pairs_of_fewer_than_five_patients_are_counted_but_not_told():
    gold_N, predicted = np.array([0] * 6 + [1] * 3), [1] * 6 + [2] * 3
    sample = Sample(answers(predicted, 3), gold_N)
    told, hidden = confusion(sample, LABELS[:3], NAMES[:3], small_cells=False)
    assert [(row["gold"], row["predicted"], row["n"]) for row in told] == [("gout", "flu", 6)] and hidden == 1
    told, hidden = confusion(sample, LABELS[:3], NAMES[:3], small_cells=True)
    assert [row["n"] for row in told] == [6, 3] and hidden == 0


# ------------------------------------------------------------------ subgroups


def grouped(drawn, values, small_cells=False):
    cases = drawn(len(values))
    weights_BN = draws(cases.groups, 100)
    return cases, subgroup_figures(
        cases.probabilities_NK, cases.gold_N, values, cases.groups, weights_BN, small_cells=small_cells
    )


def test_groups_and_their_largest_gap_equal_fairlearn(drawn):
    from fairlearn.metrics import MetricFrame
    from sklearn.metrics import accuracy_score, balanced_accuracy_score

    values = ["a", "b", "c"] * 60
    cases, found = grouped(drawn, values)
    frame = MetricFrame(
        metrics={"top1": accuracy_score, "sensitivity": balanced_accuracy_score},
        y_true=cases.gold_N,
        y_pred=cases.probabilities_NK.argmax(axis=1),
        sensitive_features=values,
    )
    for name in ("top1", "sensitivity"):
        assert {row["value"]: row[name]["value"] for row in found["groups"]} == pytest.approx(
            frame.by_group[name].to_dict()
        )
        gap = found[f"gap_{name}"]
        assert gap["value"] == pytest.approx(frame.difference()[name])
        assert gap["low"] <= gap["value"] <= gap["high"] or gap["low"] < gap["high"]
        best, worst = frame.by_group[name].idxmax(), frame.by_group[name].idxmin()
        assert gap["between"] == [best, worst]


def test_sensitivity_is_compared_over_the_diseases_that_all_groups_have():
    """Both groups have half of the flu right and all of the gout; only women have the cold, and none of it right."""
    gold_N = np.array([0] * 10 + [1] * 10 + [2] * 10 + [0] * 10 + [1] * 10)
    predicted = [0] * 5 + [1] * 5 + [1] * 10 + [0] * 10 + [0] * 5 + [1] * 5 + [1] * 10
    values, groups = ["f"] * 30 + ["m"] * 20, [str(n) for n in range(50)]
    weights_BN = draws(groups, 200)
    args = (answers(predicted, 3), gold_N, values, groups, weights_BN)
    found = subgroup_figures(*args, small_cells=False)
    # Each group's own figure is over its own diseases.
    assert [row["sensitivity"]["value"] for row in found["groups"]] == [0.5, 0.75]
    assert found["gap_sensitivity"]["value"] == 0 and found["gap_sensitivity"]["low"] == 0


def test_groups_without_a_disease_in_common_have_no_gap_of_sensitivity():
    gold_N, values, groups = np.array([0] * 10 + [1] * 10), ["f"] * 10 + ["m"] * 10, [str(n) for n in range(20)]
    found = subgroup_figures(answers([0] * 20, 2), gold_N, values, groups, draws(groups, 50), small_cells=False)
    assert found["gap_sensitivity"]["value"] is None
    assert found["gap_sensitivity"]["why"] == "undefined, no diagnosis has cases in all groups"
    assert found["gap_top1"]["value"] == 1


def test_a_subgroup_of_three_is_named_but_not_measured(drawn):
    _, found = grouped(drawn, ["a"] * 40 + ["b"] * 40 + ["c"] * 3)
    row = found["groups"][2]
    assert row["value"] == "c" and row["n"] is None and row["suppressed"]
    assert row["top1"]["value"] is None and row["top1"]["why"] == "fewer than 5 patients"
    _, found = grouped(drawn, ["a"] * 40 + ["b"] * 40 + ["c"] * 3, small_cells=True)
    assert found["groups"][2]["n"] == 3 and found["groups"][2]["top1"]["value"] is not None


def test_the_unknown_are_a_row_and_no_side_of_a_gap(drawn):
    _, found = grouped(drawn, ["a"] * 40 + [UNKNOWN] * 40)
    assert [row["value"] for row in found["groups"]] == ["a", UNKNOWN]
    assert found["gap_top1"]["value"] is None and "two groups" in found["gap_top1"]["why"]


def test_a_gap_that_is_there_is_found_and_its_interval_excludes_zero():
    right = np.array([True] * 90 + [False] * 10 + [True] * 50 + [False] * 50)
    values, groups = ["f"] * 100 + ["m"] * 100, [str(n) for n in range(200)]
    gap = subgroup_accuracy(right, values, groups, draws(groups, 200), small_cells=False)["gap_top1"]
    assert gap["value"] == pytest.approx(0.4) and gap["low"] > 0.2 and gap["between"] == ["f", "m"]


def test_a_gap_between_subgroups_of_one_cluster_each_has_no_interval():
    right = np.array([True] * 30 + [False] * 20)
    values = ["exam 1"] * 25 + ["exam 2"] * 25
    found = subgroup_accuracy(right, values, values, draws(values, 50), small_cells=False)
    assert found["gap_top1"]["value"] == pytest.approx(0.8) and found["gap_top1"]["low"] is None
    assert found["gap_top1"]["method"] == "no interval: one group"
    assert [limits_to_read(row["top1"]) for row in found["groups"]] == [(None, None)] * 2


# ------------------------------------------------------------------ curves


def test_areas_of_the_curves_equal_the_figures_and_scikit_learn(drawn):
    from sklearn.metrics import roc_auc_score

    cases = drawn(600)
    sample = Sample(cases.probabilities_NK, cases.gold_N)
    found, figures = curves(sample, small_cells=False), sample.values()
    assert found["roc"]["macro"]["area"] == pytest.approx(figures["auroc_macro"][0], abs=0.01)
    assert found["pr"]["macro"]["area"] == pytest.approx(figures["auprc_macro"][0], abs=1e-5)
    assert found["risk_coverage"]["area"] == pytest.approx(figures["aurc"][0])
    truth = cases.gold_N[:, None] == np.arange(8)
    micro = roc_auc_score(truth.ravel(), cases.probabilities_NK.ravel())
    assert found["roc"]["micro"]["area"] == pytest.approx(micro)
    for curve in (found["roc"]["micro"], found["roc"]["macro"], found["pr"]["micro"], found["risk_coverage"]):
        assert len(curve["x"]) == len(curve["y"]) <= 201 and curve["x"] == sorted(curve["x"])
    x, y = found["roc"]["micro"]["x"], found["roc"]["micro"]["y"]
    assert np.trapezoid(y, x) == pytest.approx(micro, abs=0.005)


def test_the_area_of_a_precision_recall_curve_of_chance_is_the_prevalence():
    sample = Sample(np.full((12, 4), 0.25, np.float32), np.arange(12) % 4)
    assert curves(sample, small_cells=True)["pr"]["macro"]["area"] == pytest.approx(0.25)


def test_one_disease_has_no_roc_curve():
    assert set(curves(Sample(answers([0, 0, 1], 2), np.zeros(3, int)), small_cells=False)) == {"risk_coverage"}


def test_no_single_answer_can_be_read_off_the_curve_of_risk_and_coverage(drawn):
    cases = drawn(203)
    sample = Sample(cases.probabilities_NK, cases.gold_N)
    whole, told = (curves(sample, small_cells=small)["risk_coverage"] for small in (True, False))
    assert len(whole["x"]) > 150 and whole["area"] == told["area"]
    answered_P = np.round(np.array(told["x"]) * 203)
    assert np.diff(answered_P, prepend=0).min() >= 5 and answered_P[-1] == 203 and len(answered_P) >= 203 // 5 - 1
    assert set(zip(told["x"], told["y"], strict=True)) <= set(zip(whole["x"], whole["y"], strict=True))


def test_of_four_cases_there_is_no_curve_of_risk_and_coverage():
    found = curves(Sample(answers([0, 0, 1, 1], 2), np.zeros(4, int)), small_cells=False)["risk_coverage"]
    assert found["x"] == found["y"] == []
