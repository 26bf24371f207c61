"""Every headline figure equals the library's own function, on any reweighting, with ties and absent classes."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from sklearn import metrics as sk

from distmed.evaluate.bootstrap import draws
from distmed.evaluate.sample import Sample

CLASSES = 8


@pytest.fixture(params=["plain", "ties", "absent classes"])
def scored(request, drawn):
    cases = drawn(240, CLASSES)
    if request.param == "ties":
        coarse_NK = np.round(cases.probabilities_NK * 10) + 1
        return (coarse_NK / coarse_NK.sum(axis=1, keepdims=True)).astype(np.float32), cases.gold_N, cases.groups
    gold_N = cases.gold_N % 5 if request.param == "absent classes" else cases.gold_N
    return cases.probabilities_NK, gold_N, cases.groups


def reference(probabilities_NK, gold_N):
    """The same figures by scikit-learn, for cases that count once each."""
    every = np.arange(CLASSES)
    predicted_N = probabilities_NK.argmax(axis=1)
    present = np.unique(gold_N)
    truth_NC = gold_N[:, None] == present
    exact_NK = probabilities_NK.astype(np.float64)
    exact_NK /= exact_NK.sum(axis=1, keepdims=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        f1 = {how: sk.f1_score(gold_N, predicted_N, average=how) for how in ("macro", "micro", "weighted")}
        return {
            "top1": sk.accuracy_score(gold_N, predicted_N),
            **{f"{how}_f1": value for how, value in f1.items()},
            "balanced_accuracy": sk.balanced_accuracy_score(gold_N, predicted_N),
            "mcc": sk.matthews_corrcoef(gold_N, predicted_N),
            "auroc_macro": np.mean([sk.roc_auc_score(gold_N == k, probabilities_NK[:, k]) for k in present]),
            "auprc_macro": np.mean([sk.average_precision_score(gold_N == k, probabilities_NK[:, k]) for k in present]),
            "prevalence_macro": truth_NC.mean(axis=0).mean(),
            "nll": sk.log_loss(gold_N, exact_NK, labels=every),
            "brier": sk.brier_score_loss(gold_N, exact_NK, labels=every),
        }


def test_every_figure_equals_scikit_learn(scored):
    probabilities_NK, gold_N, _ = scored
    ours = Sample(probabilities_NK, gold_N).values()
    for name, value in reference(probabilities_NK, gold_N).items():
        assert ours[name][0] == pytest.approx(value, abs=2e-6), name


def test_a_draw_equals_the_figures_of_the_cases_it_repeats(scored):
    probabilities_NK, gold_N, groups = scored
    weights_BN = draws(groups, 5, seed=3)
    ours = Sample(probabilities_NK, gold_N).values(weights_BN)
    for b in range(5):
        again = np.repeat(np.arange(len(gold_N)), weights_BN[b].astype(int))
        for name, value in reference(probabilities_NK[again], gold_N[again]).items():
            assert ours[name][b] == pytest.approx(value, abs=3e-6), name


@pytest.mark.parametrize("k", [3, 5])
def test_top_k_equals_scikit_learn(drawn, k):
    cases = drawn()
    ours = Sample(cases.probabilities_NK, cases.gold_N).values()[f"top{k}"][0]
    assert ours == pytest.approx(sk.top_k_accuracy_score(cases.gold_N, cases.probabilities_NK, k=k, labels=range(8)))


def test_more_places_than_classes_hold_every_case():
    sample = Sample(np.array([[0.6, 0.4], [0.6, 0.4]], np.float32), np.array([1, 0]))
    assert sample.values()["top3"][0] == sample.values()["top5"][0] == 1


def test_a_diagnosis_of_probability_zero_is_no_hit_at_any_place():
    sample = Sample(np.array([[0.6, 0.4, 0], [1, 0, 0]], np.float32), np.array([2, 0]))
    assert [sample.values()[f"top{k}"][0] for k in (1, 3, 5)] == [0.5, 0.5, 0.5]


@pytest.mark.slow
def test_calibration_errors_equal_torchmetrics(drawn):
    import torch
    from torchmetrics.functional.classification import multiclass_calibration_error

    cases = drawn(sharpness=2)
    ours = Sample(cases.probabilities_NK, cases.gold_N).values()
    for name, norm in (("ece", "l1"), ("mce", "max")):
        theirs = multiclass_calibration_error(
            torch.tensor(cases.probabilities_NK), torch.tensor(cases.gold_N), num_classes=8, n_bins=15, norm=norm
        )
        assert ours[name][0] == pytest.approx(theirs.item(), abs=1e-6)


def test_equal_mass_calibration_error_by_hand():
    # 30 cases in 15 bins of two: confidences 0.50, 0.51, ... each pair right once.
    confidence_N = np.linspace(0.5, 0.79, 30).astype(np.float32)
    sample = Sample(np.stack([confidence_N, 1 - confidence_N], axis=1), np.arange(30) % 2)
    pairs = confidence_N.reshape(15, 2).mean(axis=1)
    assert sample.values()["ece_mass"][0] == pytest.approx(np.abs(pairs - 0.5).mean(), abs=1e-6)


def test_aurc_by_hand():
    # Answered from the most confident on: right, wrong, right; two cases tie at the end.
    probabilities = np.array([[0.9, 0.1], [0.8, 0.2], [0.7, 0.3], [0.7, 0.3]], np.float32)
    sample = Sample(probabilities, np.array([0, 1, 0, 1]))
    assert sample.values()["aurc"][0] == pytest.approx((0 + 1 / 2 + 2 / 4 + 2 / 4) / 4)


def test_all_scores_equal_is_chance_and_no_crash():
    values = Sample(np.full((12, 4), 0.25, np.float32), np.arange(12) % 4).values()
    assert values["auroc_macro"][0] == 0.5
    assert values["auprc_macro"][0] == pytest.approx(0.25)
    assert values["top1"][0] == values["aurc"][0] / 3 == 0.25
    assert values["mcc"][0] == 0


def test_cases_of_one_diagnosis_have_no_correlation():
    probabilities = np.array([[0.6, 0.4], [0.3, 0.7], [0.9, 0.1]], np.float32)
    sample = Sample(probabilities, np.array([0, 0, 1]))
    assert np.isnan(Sample(probabilities, np.zeros(3, int)).values()["mcc"][0])
    weights_BN = np.array([[1, 2, 0], [2, 0, 1]], np.float32)
    assert np.isnan(sample.values(weights_BN)["mcc"]).tolist() == [True, False]


def test_one_case_has_no_area_under_a_curve():
    values = Sample(np.array([[0.3, 0.7]], np.float32), np.array([1])).values()
    assert np.isnan(values["auroc_macro"][0])
    assert values["top1"][0] == values["macro_f1"][0] == 1
