"""How long the intervals of the evidence take, and the figures inside training: `python benchmarks/bootstrap.py`.

Made-up cases, 1,226 over 131 diseases and other sizes: all figures over 1,000 draws of whole groups, beside five of them by
scikit-learn, draw by draw, of which a few draws are timed; and `diag/*` once.
"""

from __future__ import annotations

import time
import warnings
from importlib.metadata import version

import numpy as np
import torch
from dated import Dated

from distmed.evaluate.bootstrap import DRAWS, Floats, draws
from distmed.evaluate.diseases import per_disease
from distmed.evaluate.evidence import headline
from distmed.evaluate.metrics import diagnosis_metrics
from distmed.evaluate.sample import Ints, Sample

SIZES = ((360, 131), (1226, 131), (1226, 800), (5000, 131))
LOOPED = 5


def drawn(cases: int, classes: int) -> tuple[Floats, Ints, list[str]]:
    """Probabilities, gold labels that follow them, and groups of four cases on average."""
    random = np.random.default_rng(0)
    share_NK = np.exp(1.5 * random.normal(size=(cases, classes)))
    probabilities_NK = share_NK / share_NK.sum(axis=1, keepdims=True)
    gold_N = (probabilities_NK.cumsum(axis=1) < random.random((cases, 1))).sum(axis=1).clip(0, classes - 1)
    return probabilities_NK.astype(np.float32), gold_N, [str(n) for n in random.integers(0, cases // 4, cases)]


def ours(cases: int, classes: int) -> tuple[float, float]:
    """(seconds, CPU seconds) of draws, headline figures and those of every disease, with their intervals."""
    probabilities_NK, gold_N, groups = drawn(cases, classes)
    names = [str(k) for k in range(classes)]
    started, cpu = time.perf_counter(), time.process_time()
    sample, weights_BN = Sample(probabilities_NK, gold_N), draws(groups)
    headline(sample, weights_BN, len(set(groups)))
    per_disease(sample, names, names, groups, weights_BN, small_cells=True)
    return time.perf_counter() - started, time.process_time() - cpu


def in_training(cases: int, classes: int) -> float:
    """Seconds of the figures of one evaluation inside training."""
    probabilities_NK, gold_N, _ = drawn(cases, classes)
    started = time.perf_counter()
    diagnosis_metrics(probabilities_NK, gold_N, [str(k) for k in range(classes)], {})
    return time.perf_counter() - started


def looped(cases: int, classes: int) -> float:
    """Seconds that 1,000 draws would take one by one: macro-F1, balanced accuracy, MCC, AUROC and average precision."""
    from sklearn import metrics

    probabilities_NK, gold_N, groups = drawn(cases, classes)
    started = time.perf_counter()
    for weight_N in draws(groups, LOOPED):
        n = np.repeat(np.arange(cases), weight_N.astype(int))
        gold, scores, said = gold_N[n], probabilities_NK[n], probabilities_NK[n].argmax(axis=1)
        metrics.f1_score(gold, said, average="macro", zero_division=0)
        metrics.balanced_accuracy_score(gold, said)
        metrics.matthews_corrcoef(gold, said)
        for k in np.unique(gold):
            metrics.roc_auc_score(gold == k, scores[:, k])
            metrics.average_precision_score(gold == k, scores[:, k])
    return (time.perf_counter() - started) * DRAWS / LOOPED


def main() -> None:
    warnings.simplefilter("ignore")
    file = Dated("bootstrap", "Intervals by bootstrap")
    file.line(f"{torch.get_num_threads()} threads; numpy {version('numpy')}, scikit-learn {version('scikit-learn')}.\n")
    file.table(
        "cases", "classes", "1,000 draws, s", "CPU s", "scikit-learn, one by one, s", "times as fast", "diag/*, s"
    )
    for cases, classes in SIZES:
        seconds, cpu = min(ours(cases, classes) for _ in range(3))
        loop = looped(cases, classes)
        once = min(in_training(cases, classes) for _ in range(3))
        times = f"{loop / seconds:.0f}"
        file.row(f"{cases:,}", classes, f"{seconds:.2f}", f"{cpu:.2f}", f"{loop:,.0f}", times, f"{once:.3f}")
    file.line(
        "\nOurs: every headline figure, and AUROC, AUPRC and F1 of every disease, drawing included; the best of three."
        f"\nscikit-learn: macro-F1, balanced accuracy, MCC, macro AUROC and AUPRC, extrapolated from {LOOPED} draws."
    )


if __name__ == "__main__":
    main()
