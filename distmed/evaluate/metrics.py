"""Point estimates of how well diagnoses are told apart and how far their probabilities can be believed.

Probabilities and gold labels of all cases flow in, named numbers and two tables flow out. This runs inside training,
so all of it together takes a fraction of a second for a thousand cases and a hundred diseases.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from distmed.errors import UserError

# N: cases, K: labels. A gold label of -1 is a disease that the model has no class for.

METRICS = (
    "diag/top1",
    "diag/top3",
    "diag/macro_f1",
    "diag/balanced_accuracy",
    "diag/auroc_macro",
    "diag/ece",
    "diag/brier",
    "diag/top5",
    "diag/mcc",
    "diag/auprc_macro",
    "diag/aurc",
)
SUBGROUP = "diag/top1/"
LOWER_IS_BETTER = frozenset({"eval/loss", "diag/ece", "diag/brier", "diag/aurc"})
NOT_A_CLASS = -1
NOT_A_CLASS_NAME = "(no class of the model)"
SMALLEST_SUBGROUP = 5
FEW_CASES = 10
ECE_BINS = 15

Floats = NDArray[np.floating]
Ints = NDArray[np.integer]


@dataclass(frozen=True)
class Confusion:
    """How many cases of one disease were given one diagnosis."""

    gold: str
    predicted: str
    n: int


@dataclass(frozen=True)
class DiseaseRow:
    """One disease among the cases; `ppv` is None where it was never predicted, `few` marks fewer than ten cases."""

    label: str
    n: int
    sensitivity: float
    ppv: float | None
    few: bool


def diagnosis_metrics(
    probabilities_NK: Floats, gold_N: Ints, labels: list[str], subgroups: dict[str, list[str]]
) -> dict[str, float]:
    """The numbers of `METRICS`, and top-1 of subgroups as `diag/top1/sex=female`; what is undefined is absent.

    Each row of `probabilities_NK` sums to 1; `subgroups` maps a name to one value per case. A case whose gold label
    is -1 counts as answered wrongly: its true class got probability 0.

    - macro_f1 is the mean over the classes that are gold or predicted, balanced_accuracy over those that are gold.
    - mcc: the correlation of answers and truth (Gorodkin 2004), by scikit-learn.
    - auprc_macro: average precision, one class against the rest, mean over the classes that are gold.
    - aurc: mean risk over all coverages, the most confident answers first (Geifman et al. 2019, arXiv:1805.08206).
    - auroc_macro: one class against the rest, mean over the classes that have both; ties count half.
    - ece: expected calibration error of the highest probability, 15 equal bins (Guo et al. 2017, arXiv:1706.04599).
    - brier: squared error summed over classes, between 0 and 2 (Brier 1950).

    Raises UserError for scores that are not finite, or no case at all.
    """
    _check(probabilities_NK, gold_N, labels, subgroups)
    order_NK = np.argsort(-probabilities_NK, axis=1, kind="stable")
    correct_N = order_NK[:, 0] == gold_N
    metrics = {
        "diag/top1": float(correct_N.mean()),
        "diag/top3": float((order_NK[:, :3] == gold_N[:, None]).any(axis=1).mean()),
        **_per_class_means(order_NK[:, 0], gold_N),
        **_auroc(probabilities_NK, gold_N),
        "diag/ece": _calibration_error(probabilities_NK.max(axis=1), correct_N),
        "diag/brier": _brier(probabilities_NK, gold_N),
        "diag/top5": float((order_NK[:, :5] == gold_N[:, None]).any(axis=1).mean()),
        "diag/mcc": _mcc(order_NK[:, 0], gold_N),
        **_average_precision(probabilities_NK, gold_N),
        "diag/aurc": _aurc(probabilities_NK.max(axis=1), correct_N),
    }
    for name, value_N in subgroups.items():
        for value, member_N in _members(value_N).items():
            if member_N.sum() >= SMALLEST_SUBGROUP:
                metrics[f"{SUBGROUP}{name}={value}"] = float(correct_N[member_N].mean())
    return metrics


def confusion_cells(gold_N: Ints, predicted_N: Ints, labels: list[str]) -> list[Confusion]:
    """The cells of the confusion matrix that are not empty, the fullest first."""
    pairs_M2, count_M = np.unique(np.stack([gold_N, predicted_N], axis=1), axis=0, return_counts=True)
    order = np.argsort(-count_M, kind="stable")
    return [
        Confusion(_name(int(gold), labels), _name(int(predicted), labels), int(n))
        for (gold, predicted), n in zip(pairs_M2[order], count_M[order], strict=True)
    ]


def per_disease(gold_N: Ints, predicted_N: Ints, labels: list[str]) -> list[DiseaseRow]:
    """Sensitivity and positive predictive value of every disease present in gold, in the order of `labels`."""
    classes = len(labels)
    known_N = gold_N != NOT_A_CLASS
    gold_K = np.bincount(gold_N[known_N], minlength=classes)
    predicted_K = np.bincount(predicted_N, minlength=classes)
    right_K = np.bincount(gold_N[gold_N == predicted_N], minlength=classes)
    return [
        DiseaseRow(
            label=labels[k],
            n=int(gold_K[k]),
            sensitivity=float(right_K[k] / gold_K[k]),
            ppv=float(right_K[k] / predicted_K[k]) if predicted_K[k] else None,
            few=bool(gold_K[k] < FEW_CASES),
        )
        for k in np.flatnonzero(gold_K)
    ]


def _check(probabilities_NK: Floats, gold_N: Ints, labels: list[str], subgroups: dict[str, list[str]]) -> None:
    if probabilities_NK.shape != (len(gold_N), len(labels)):
        raise ValueError(f"scores of shape {probabilities_NK.shape} for {len(gold_N)} cases and {len(labels)} labels")
    for name, value_N in subgroups.items():
        if len(value_N) != len(gold_N):
            raise ValueError(f"subgroup {name} has {len(value_N)} values for {len(gold_N)} cases")
    if not len(gold_N):
        raise UserError("there is no case to measure", "give an evaluation set with at least one labelled case")
    broken = int((~np.isfinite(probabilities_NK)).any(axis=1).sum())
    if broken:
        raise UserError(
            f"the scores of {broken} of {len(gold_N)} evaluation cases are not finite",
            "the model has diverged: lower optimizer.lr, and go on from an earlier checkpoint",
        )
    if probabilities_NK.min() < -1e-6 or probabilities_NK.max() > 1 + 1e-3:
        raise ValueError("scores must be probabilities, not logits")


def _name(k: int, labels: list[str]) -> str:
    return NOT_A_CLASS_NAME if k == NOT_A_CLASS else labels[k]


def _members(value_N: list[str]) -> dict[str, NDArray[np.bool_]]:
    values = np.array(value_N, dtype=object)
    return {value: values == value for value in sorted(set(value_N))}


def _per_class_means(predicted_N: Ints, gold_N: Ints) -> dict[str, float]:
    """Macro-F1 over the classes that are gold or predicted (scikit-learn's own choice), recall over those that are gold."""
    from sklearn.metrics import f1_score, recall_score

    present = np.unique(gold_N[gold_N != NOT_A_CLASS])
    if not len(present):
        return {}
    named = np.union1d(present, predicted_N)
    return {
        "diag/macro_f1": float(f1_score(gold_N, predicted_N, labels=named, average="macro", zero_division=0)),
        "diag/balanced_accuracy": float(
            recall_score(gold_N, predicted_N, labels=present, average="macro", zero_division=0)
        ),
    }


def _mcc(predicted_N: Ints, gold_N: Ints) -> float:
    from sklearn.metrics import matthews_corrcoef

    # With one label on both sides scikit-learn says 0, too, and warns.
    one = len(np.union1d(predicted_N, gold_N)) == 1
    return 0.0 if one else float(matthews_corrcoef(gold_N, predicted_N))


def _auroc(probabilities_NK: Floats, gold_N: Ints) -> dict[str, float]:
    """Area under the ROC curve from the rank sum (Hanley & McNeil 1982), all classes at once: `roc_auc_score` loops."""
    from scipy.stats import rankdata

    cases, classes = probabilities_NK.shape
    positives_K = np.bincount(gold_N[gold_N != NOT_A_CLASS], minlength=classes)
    defined = np.flatnonzero((positives_K > 0) & (positives_K < cases))
    if not len(defined):
        return {}
    positive_ND = gold_N[:, None] == defined
    rank_sum_D = (rankdata(probabilities_NK[:, defined], axis=0) * positive_ND).sum(axis=0)
    n_D = positives_K[defined]
    area_D = (rank_sum_D - n_D * (n_D + 1) / 2) / (n_D * (cases - n_D))
    return {"diag/auroc_macro": float(area_D.mean())}


def _average_precision(probabilities_NK: Floats, gold_N: Ints) -> dict[str, float]:
    """As scikit-learn computes it, all classes at once: precision at each positive, where equal scores go together."""
    cases, classes = probabilities_NK.shape
    positives_K = np.bincount(gold_N[gold_N != NOT_A_CLASS], minlength=classes)
    present = np.flatnonzero(positives_K)
    if not len(present):
        return {}
    order_ND = np.argsort(-probabilities_NK[:, present], axis=0, kind="stable")
    sorted_ND = np.take_along_axis(probabilities_NK[:, present], order_ND, axis=0)
    positive_ND = gold_N[order_ND] == present
    ends_ND = np.vstack([sorted_ND[1:] != sorted_ND[:-1], np.ones((1, len(present)), bool)])
    place_ND = np.where(ends_ND, np.arange(cases)[:, None], cases)
    end_ND = np.minimum.accumulate(place_ND[::-1], axis=0)[::-1]
    precision_ND = np.take_along_axis(positive_ND.cumsum(axis=0), end_ND, axis=0) / (end_ND + 1)
    area_D = (precision_ND * positive_ND).sum(axis=0) / positives_K[present]
    return {"diag/auprc_macro": float(area_D.mean())}


def _aurc(confidence_N: Floats, correct_N: NDArray[np.bool_]) -> float:
    from distmed.evaluate.abstention import risk_coverage

    coverage_P, risk_P = risk_coverage(confidence_N, correct_N)
    return float((np.diff(coverage_P, prepend=0) * risk_P).sum())


def _calibration_error(confidence_N: Floats, correct_N: NDArray[np.bool_]) -> float:
    """Equal to torchmetrics' `binary_calibration_error`, whose import alone takes seconds, in the middle of a run."""
    bin_N = np.clip((confidence_N * ECE_BINS).astype(int), 0, ECE_BINS - 1)
    gap_B = np.bincount(bin_N, weights=correct_N - confidence_N, minlength=ECE_BINS)
    return float(np.abs(gap_B).sum() / len(confidence_N))


def _brier(probabilities_NK: Floats, gold_N: Ints) -> float:
    """A disease without a class had probability 0, so its own term is 1."""
    truth_NK = gold_N[:, None] == np.arange(probabilities_NK.shape[1])
    squares_N = np.square(probabilities_NK - truth_NK, dtype=np.float64).sum(axis=1)
    return float((squares_N + (gold_N == NOT_A_CLASS)).mean())
