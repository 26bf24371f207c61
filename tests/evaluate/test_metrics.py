"""What the metrics promise: each is checked against a case worked by hand or the library's own function."""

from __future__ import annotations

import numpy as np
import pytest

from distmed.errors import UserError
from distmed.evaluate.metrics import (
    METRICS,
    Confusion,
    DiseaseRow,
    confusion_cells,
    diagnosis_metrics,
    per_disease,
)

LABELS = ["flu", "cold", "gout"]
# Three answers right at the first place, one at the second, one disease that the model has no class for.
PROBABILITIES = np.array([[0.7, 0.2, 0.1], [0.6, 0.3, 0.1], [0.1, 0.8, 0.1], [0.2, 0.2, 0.6], [0.5, 0.25, 0.25]])
GOLD = np.array([0, 1, 1, 2, -1])


def random_scores(cases: int = 400, classes: int = 12) -> tuple[np.ndarray, np.ndarray, list[str]]:
    rng = np.random.default_rng(0)
    gold_N = rng.integers(0, classes - 2, cases)
    logits_NK = rng.normal(size=(cases, classes)) + 2 * np.eye(classes)[gold_N]
    probabilities_NK = np.exp(logits_NK) / np.exp(logits_NK).sum(axis=1, keepdims=True)
    return probabilities_NK.astype(np.float32), gold_N, [f"d{k}" for k in range(classes)]


def test_hand_worked_case():
    metrics = diagnosis_metrics(PROBABILITIES, GOLD, LABELS, {})
    assert tuple(metrics) == METRICS
    assert metrics["diag/top1"] == pytest.approx(3 / 5)
    assert metrics["diag/top3"] == pytest.approx(4 / 5)
    assert metrics["diag/balanced_accuracy"] == pytest.approx((1 + 1 / 2 + 1) / 3)
    # flu: 1 of 3 predictions right; cold: 1 of 1, 1 of 2 found; gout: all.
    assert metrics["diag/macro_f1"] == pytest.approx((2 / 4 + 2 / 3 + 1) / 3)
    # flu: its one case beats all four others; cold: 0.3 and 0.8 beat 0.2, 0.2 and 0.25; gout: 0.6 beats all.
    assert metrics["diag/auroc_macro"] == pytest.approx(1.0)
    assert metrics["diag/brier"] == pytest.approx(np.mean([0.14, 0.86, 0.06, 0.24, 1.375]))
    assert metrics["diag/top5"] == pytest.approx(4 / 5)
    # The one gout is first of five, the flu too; the colds are first and second.
    assert metrics["diag/auprc_macro"] == pytest.approx(1.0)
    # Answered by confidence: 0.8 right, 0.7 right, then 0.6 (one right, one wrong), 0.5 wrong.
    assert metrics["diag/aurc"] == pytest.approx((0 + 0 + 1 / 4 + 1 / 4 + 2 / 5) / 5)
    # Confidences 0.7, 0.6, 0.8, 0.6, 0.5 lie in bins 10, 9, 12, 9, 7.
    assert metrics["diag/ece"] == pytest.approx((0.3 + abs(1 - 1.2) + 0.2 + 0.5) / 5)


def test_known_labels_agree_with_scikit_learn():
    from sklearn import metrics as sk

    probabilities_NK, gold_N, labels = random_scores()
    ours = diagnosis_metrics(probabilities_NK, gold_N, labels, {})
    predicted_N, classes = probabilities_NK.argmax(1), np.arange(len(labels))
    present = np.unique(gold_N)
    assert ours["diag/top1"] == pytest.approx(sk.accuracy_score(gold_N, predicted_N))
    assert ours["diag/top3"] == pytest.approx(sk.top_k_accuracy_score(gold_N, probabilities_NK, k=3, labels=classes))
    assert ours["diag/macro_f1"] == pytest.approx(sk.f1_score(gold_N, predicted_N, average="macro"))
    assert ours["diag/balanced_accuracy"] == pytest.approx(
        sk.recall_score(gold_N, predicted_N, labels=present, average="macro")
    )
    assert ours["diag/auroc_macro"] == pytest.approx(
        sk.roc_auc_score(gold_N[:, None] == present, probabilities_NK[:, present], average="macro")
    )
    assert ours["diag/auprc_macro"] == pytest.approx(
        np.mean([sk.average_precision_score(gold_N == k, probabilities_NK[:, k]) for k in present])
    )
    assert ours["diag/mcc"] == pytest.approx(sk.matthews_corrcoef(gold_N, predicted_N))
    assert ours["diag/top5"] == pytest.approx(sk.top_k_accuracy_score(gold_N, probabilities_NK, k=5, labels=classes))
    assert ours["diag/brier"] == pytest.approx(sk.brier_score_loss(gold_N, probabilities_NK, labels=classes), abs=1e-6)


def test_tied_scores_count_as_in_scikit_learn():
    from sklearn.metrics import average_precision_score, roc_auc_score

    probabilities_NK, gold_N, labels = random_scores()
    coarse_NK = np.round(probabilities_NK, 1)
    present = np.unique(gold_N)
    ours = diagnosis_metrics(coarse_NK, gold_N, labels, {})
    roc = roc_auc_score(gold_N[:, None] == present, coarse_NK[:, present], average="macro")
    assert ours["diag/auroc_macro"] == pytest.approx(roc)
    precision = np.mean([average_precision_score(gold_N == k, coarse_NK[:, k]) for k in present])
    assert ours["diag/auprc_macro"] == pytest.approx(precision)


@pytest.mark.slow
def test_calibration_error_agrees_with_torchmetrics():
    import torch
    from torchmetrics.functional.classification import binary_calibration_error, multiclass_calibration_error

    probabilities_NK, gold_N, labels = random_scores()
    ours = diagnosis_metrics(probabilities_NK, gold_N, labels, {})["diag/ece"]
    theirs = multiclass_calibration_error(
        torch.tensor(probabilities_NK), torch.tensor(gold_N), num_classes=len(labels), n_bins=15, norm="l1"
    )
    assert ours == pytest.approx(theirs.item(), abs=1e-6)
    gold_N[:40] = -1
    confidence_N, correct_N = probabilities_NK.max(1), (probabilities_NK.argmax(1) == gold_N).astype(int)
    theirs = binary_calibration_error(torch.tensor(confidence_N), torch.tensor(correct_N), n_bins=15, norm="l1")
    ours = diagnosis_metrics(probabilities_NK, gold_N, labels, {})["diag/ece"]
    assert ours == pytest.approx(theirs.item(), abs=1e-6)


def test_macro_f1_counts_a_disease_that_no_case_has_once_it_is_predicted():
    probabilities_NK = np.array([[0.8, 0.1, 0.1], [0.1, 0.1, 0.8]])
    metrics = diagnosis_metrics(probabilities_NK, np.array([0, 0]), LABELS, {})
    assert metrics["diag/macro_f1"] == pytest.approx((2 / 3 + 0) / 2)


def test_auroc_is_absent_where_it_is_undefined():
    metrics = diagnosis_metrics(PROBABILITIES[:1], np.array([0]), LABELS, {})
    assert "diag/auroc_macro" not in metrics
    assert metrics["diag/top1"] == 1


@pytest.mark.parametrize("cases", [1, 7])
def test_equal_scores_give_chance_and_no_crash(cases):
    gold_N = np.arange(cases) % 4
    metrics = diagnosis_metrics(np.full((cases, 4), 0.25), gold_N, list("abcd"), {})
    assert metrics["diag/top1"] == pytest.approx((gold_N == 0).mean())
    assert metrics.get("diag/auroc_macro", 0.5) == 0.5


def test_only_unknown_diseases_are_all_wrong():
    metrics = diagnosis_metrics(PROBABILITIES, np.full(5, -1), LABELS, {})
    assert metrics["diag/top1"] == metrics["diag/top3"] == 0
    assert "diag/macro_f1" not in metrics
    assert metrics["diag/brier"] > 1


def test_one_label_does_not_crash():
    assert diagnosis_metrics(np.ones((3, 1)), np.zeros(3, int), ["only"], {})["diag/top1"] == 1


def test_subgroups_under_five_cases_are_left_out():
    probabilities_NK = np.tile([0.9, 0.1], (9, 1))
    gold_N = np.array([0, 0, 0, 1, 1, 0, 0, 0, 0])
    metrics = diagnosis_metrics(probabilities_NK, gold_N, ["a", "b"], {"sex": ["female"] * 5 + ["male"] * 4})
    assert metrics["diag/top1/sex=female"] == pytest.approx(3 / 5)
    assert "diag/top1/sex=male" not in metrics


def test_scores_that_are_not_numbers_are_a_user_error_without_values():
    broken_NK = PROBABILITIES.copy()
    broken_NK[2, 1] = np.nan
    with pytest.raises(UserError, match="scores of 1 of 5 evaluation cases are not finite"):
        diagnosis_metrics(broken_NK, GOLD, LABELS, {})


def test_no_case_is_a_user_error():
    with pytest.raises(UserError, match="no case to measure"):
        diagnosis_metrics(np.empty((0, 3)), np.empty(0, int), LABELS, {})


def test_logits_are_refused():
    with pytest.raises(ValueError, match="not logits"):
        diagnosis_metrics(np.array([[3.0, -1.0, 0.0]]), np.array([0]), LABELS, {})


def test_confusion_names_the_diseases_taken_for_another_most_frequent_first():
    gold_N, predicted_N = np.array([0, 0, 0, 1, 2, -1]), np.array([1, 1, 0, 0, 2, 2])
    cells = confusion_cells(gold_N, predicted_N, LABELS)
    assert cells[0] == Confusion("flu", "cold", 2)
    assert Confusion("(no class of the model)", "gout", 1) in cells
    assert sum(cell.n for cell in cells) == 6


def test_per_disease_table():
    gold_N = np.array([0] * 10 + [1, 1] + [-1])
    predicted_N = np.array([0] * 9 + [2] + [0, 0] + [0])
    assert per_disease(gold_N, predicted_N, LABELS) == [
        DiseaseRow("flu", 10, sensitivity=0.9, ppv=9 / 12, few=False),
        DiseaseRow("cold", 2, sensitivity=0.0, ppv=None, few=True),
    ]
