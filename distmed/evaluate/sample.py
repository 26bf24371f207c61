"""Sample: scored cases, and every headline figure over any reweighting of them at once.

Probabilities and gold labels flow in; a figure's value for each of B draws flows out. The estimate itself is the draw in which
each case counts once, so an estimate and its interval cannot disagree on a definition.
"""

from __future__ import annotations

from functools import cached_property
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from distmed.evaluate.metrics import ECE_BINS
from distmed.evaluate.ranks import Areas, per_class, rank_figures

# N: cases, K: labels, B: draws.
Floats = NDArray[np.floating]
Ints = NDArray[np.integer]
Values = dict[str, Floats]

TINY = float(np.finfo(np.float32).tiny)
ELEMENTS_AT_ONCE = 30_000_000
RANK_WORK = 400_000_000_000
FEWEST_DRAWS = 100


class Counts(NamedTuple):
    """Cases of each class in each draw: whose truth it is, whose answer it is, and both."""

    gold_BK: Floats
    predicted_BK: Floats
    right_BK: Floats


class Sample:
    """N cases, each with one gold label that is a class of the model.

    `probabilities_NK`: rows sum to 1. `gold_N`: index of the true class.
    """

    def __init__(self, probabilities_NK: Floats, gold_N: Ints) -> None:
        # By gold label, so that sums over the cases of a class are sums over a run.
        self.order = np.argsort(gold_N, kind="stable")
        self.probabilities_NK = np.asarray(probabilities_NK, dtype=np.float32)[self.order]
        self.gold_N = np.asarray(gold_N)[self.order]
        self.cases, self.classes = self.probabilities_NK.shape
        self.confidence_N = self.probabilities_NK.max(axis=1)
        ranked_NT = np.argsort(-self.probabilities_NK, axis=1, kind="stable")[:, :5]
        self.predicted_N = ranked_NT[:, 0]
        # A class of probability 0 was not named, whatever its place among equals.
        named_N1 = self.true_N[:, None] > 0
        self.hits_NT = np.maximum.accumulate((ranked_NT == self.gold_N[:, None]) & named_N1, axis=1)
        self.correct_N = self.hits_NT[:, 0]
        self.classes_present, self.starts = np.unique(self.gold_N, return_index=True)

    def values(self, weights_BN: Floats | None = None) -> Values:
        """The figures, each for every draw. `weights_BN`: how often a case counts, in the order the sample was made with.

        A figure that is undefined in a draw is NaN there.
        """
        return self.without_ranks(weights_BN) | rank_figures(self.areas(weights_BN))

    def areas(self, weights_BN: Floats | None = None) -> Areas:
        """AUROC and AUPRC of the classes present. They take work of N x N x B; where that is too much, fewer draws."""
        weights_BN = np.ones((1, self.cases), np.float32) if weights_BN is None else weights_BN
        fewer = max(FEWEST_DRAWS, RANK_WORK // self.cases**2)
        return per_class(self.probabilities_NK, self.gold_N, weights_BN[:fewer, self.order])

    def counts(self, weights_BN: Floats | None = None) -> Counts:
        """How many cases are of each class, were given it, and both, in every draw."""
        w_BN = np.ones((1, self.cases), np.float32) if weights_BN is None else weights_BN[:, self.order]
        return self._counts(w_BN)

    def f1(self, weights_BN: Floats | None = None) -> Floats:
        """F1 of every class [B, K]; NaN for one that is neither gold nor predicted in a draw."""
        gold_BK, predicted_BK, right_BK = self.counts(weights_BN)
        with np.errstate(invalid="ignore"):
            return 2 * right_BK / (gold_BK + predicted_BK)

    def without_ranks(self, weights_BN: Floats | None = None) -> Values:
        """The same but for the rank figures."""
        weights_BN = np.ones((1, self.cases), np.float32) if weights_BN is None else weights_BN
        rows = max(1, ELEMENTS_AT_ONCE // self.cases)
        with np.errstate(invalid="ignore", divide="ignore"):
            blocks = [self._values(weights_BN[at : at + rows][:, self.order]) for at in range(0, len(weights_BN), rows)]
        return {name: np.concatenate([block[name] for block in blocks]) for name in blocks[0]}

    def _values(self, w_BN: Floats) -> Values:
        total_B = w_BN.sum(axis=1, dtype=np.float64)

        def mean(x_N: Floats) -> Floats:
            return (w_BN @ x_N.astype(np.float32)) / total_B

        return {
            **{f"top{k}": mean(self.hits_NT[:, min(k, self.hits_NT.shape[1]) - 1]) for k in (1, 3, 5)},
            **self._per_class(w_BN, total_B),
            "nll": mean(self.nll_N),
            "brier": mean(self.brier_N),
            "ece": self._gap(w_BN, self.width_bin_N).sum(axis=1) / total_B,
            "ece_mass": self._gap(w_BN, self.mass_bin_N).sum(axis=1) / total_B,
            "mce": self._largest_gap(w_BN),
            "aurc": self._aurc(w_BN, total_B),
        }

    @cached_property
    def true_N(self) -> Floats:
        """Probability of the true class."""
        return self.probabilities_NK[np.arange(self.cases), self.gold_N]

    @cached_property
    def nll_N(self) -> Floats:
        """Negative log-likelihood of the true class, in nats."""
        return -np.log(np.maximum(self.true_N, TINY))

    @cached_property
    def brier_N(self) -> Floats:
        """Squared error summed over the classes (Brier 1950)."""
        return np.square(self.probabilities_NK).sum(axis=1) - 2 * self.true_N + 1

    @cached_property
    def width_bin_N(self) -> Ints:
        return np.clip((self.confidence_N * ECE_BINS).astype(int), 0, ECE_BINS - 1)

    @cached_property
    def mass_bin_N(self) -> Ints:
        """Bins of equal numbers of cases, cut on the whole sample; equal confidences stay together."""
        edges = np.quantile(self.confidence_N, np.linspace(0, 1, ECE_BINS + 1)[1:-1])
        return np.searchsorted(edges, self.confidence_N, side="right")

    def _per_class(self, w_BN: Floats, total_B: Floats) -> Values:
        gold_BK, predicted_BK, right_BK = self._counts(w_BN)
        f1_BK = 2 * right_BK / (gold_BK + predicted_BK)
        recall_BK = right_BK / gold_BK
        right_B = right_BK.sum(axis=1)
        # Gorodkin 2004 (doi:10.1016/j.compbiolchem.2004.09.006), as scikit-learn computes it where there are two classes.
        covariance_B = right_B * total_B - (gold_BK * predicted_BK).sum(axis=1)
        spread_B = np.sqrt((total_B**2 - (predicted_BK**2).sum(axis=1)) * (total_B**2 - (gold_BK**2).sum(axis=1)))
        mcc_B = np.where(spread_B > 0, covariance_B / spread_B, 0.0)
        # One answer to all cases is no better than chance; one truth of all cases leaves nothing to correlate with.
        mcc_B[(gold_BK > 0).sum(axis=1) < 2] = np.nan
        return {
            "macro_f1": nan_mean(f1_BK),
            "micro_f1": right_B / total_B,
            "weighted_f1": np.nansum(f1_BK * gold_BK, axis=1) / total_B,
            "balanced_accuracy": nan_mean(recall_BK),
            "mcc": mcc_B,
        }

    def _counts(self, w_BN: Floats) -> Counts:
        return Counts(self._by_gold(w_BN), self._by_predicted(w_BN), self._by_gold(w_BN * self.correct_N))

    def _by_gold(self, x_BN: Floats) -> Floats:
        sums_BK = np.zeros((len(x_BN), self.classes))
        sums_BK[:, self.classes_present] = np.add.reduceat(x_BN, self.starts, axis=1)
        return sums_BK

    def _by_predicted(self, w_BN: Floats) -> Floats:
        order = np.argsort(self.predicted_N, kind="stable")
        named, starts = np.unique(self.predicted_N[order], return_index=True)
        sums_BK = np.zeros((len(w_BN), self.classes))
        sums_BK[:, named] = np.add.reduceat(w_BN[:, order], starts, axis=1)
        return sums_BK

    def _gap(self, w_BN: Floats, bin_N: Ints) -> Floats:
        """|right answers - expected right answers| in each bin of confidence."""
        member_NJ = (bin_N[:, None] == np.arange(ECE_BINS)).astype(np.float32)
        return np.abs(w_BN @ (member_NJ * (self.correct_N - self.confidence_N)[:, None]).astype(np.float32))

    def _largest_gap(self, w_BN: Floats) -> Floats:
        member_NJ = (self.width_bin_N[:, None] == np.arange(ECE_BINS)).astype(np.float32)
        count_BJ = w_BN @ member_NJ
        gap_BJ = self._gap(w_BN, self.width_bin_N)
        return (gap_BJ / np.where(count_BJ > 0, count_BJ, np.inf)).max(axis=1)

    def _aurc(self, w_BN: Floats, total_B: Floats) -> Floats:
        """Mean selective risk over the coverages (Geifman et al. 2019, arXiv:1805.08206); equal confidences go together."""
        order = np.argsort(-self.confidence_N, kind="stable")
        sorted_N = -self.confidence_N[order]
        end_N = np.searchsorted(sorted_N, sorted_N, side="right") - 1
        w_BN = w_BN[:, order].astype(np.float64)
        kept_BN = np.cumsum(w_BN, axis=1)
        wrong_BN = np.cumsum(w_BN * ~self.correct_N[order], axis=1)
        risk_BN = wrong_BN[:, end_N] / np.maximum(kept_BN[:, end_N], 1)
        return (w_BN * risk_BN).sum(axis=1) / total_B


def nan_mean(x_BK: Floats) -> Floats:
    """Mean over the classes for which it is defined; NaN where there is none."""
    known_BK = np.isfinite(x_BK)
    return np.where(known_BK, x_BK, 0).sum(axis=1) / known_BK.sum(axis=1)
