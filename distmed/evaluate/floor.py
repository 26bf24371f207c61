"""Two floors that a fine-tuned model has to beat: a linear model of the words, and the most frequent disease.

Cases flow in; the same metrics as a model's flow out, so that they can stand in one table.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from typing import Any

import numpy as np

from distmed.cases.case import Case
from distmed.evaluate.metrics import NOT_A_CLASS, Floats, Ints, diagnosis_metrics
from distmed.evaluate.subgroups import subgroup_columns

Scores = tuple[Floats, Ints, list[str], dict[str, list[str]]]
"""Probabilities N x K, gold N, labels K, subgroups."""

INVERSE_REGULARIZATION = 20.0
MAX_ITERATIONS = 1000


def linear_floor(train: Iterable[Case], evaluation: Iterable[Case]) -> dict[str, float]:
    """Metrics on `evaluation` of TF-IDF and class-balanced logistic regression (C = 20), fitted on `train`.

    Free text gives words and pairs of words; else a finding is one token, found and excluded ones apart, and so is the
    sex. Cases without a label are left out. The result is empty where either side has no labelled case.
    """
    scores = linear_scores(_labelled(train), _labelled(evaluation))
    return {} if scores is None else diagnosis_metrics(*scores)


def majority_floor(train: Iterable[Case], evaluation: Iterable[Case]) -> dict[str, float]:
    """Metrics of answering every case with the frequencies of the diseases in `train`."""
    scores = majority_scores(_labelled(train), _labelled(evaluation))
    return {} if scores is None else diagnosis_metrics(*scores)


def majority_scores(train: list[Case], evaluation: list[Case]) -> Scores | None:
    """What `diagnosis_metrics` takes, for the frequencies of the diseases; None where there is nothing to count or to score."""
    if not train or not evaluation:
        return None
    labels, count_K = np.unique([case.label for case in train], return_counts=True)
    probabilities_NK = np.tile(count_K / count_K.sum(), (len(evaluation), 1))
    return probabilities_NK, _gold(evaluation, labels), labels.tolist(), _subgroups(evaluation)


def linear_scores(train: list[Case], evaluation: list[Case]) -> Scores | None:
    """What `diagnosis_metrics` takes, for the linear model; None where there is nothing to fit or to score."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression

    if not train or not evaluation:
        return None
    targets = np.array([case.label for case in train])
    labels = np.unique(targets)
    if len(labels) == 1:
        probabilities_NK = np.ones((len(evaluation), 1))
    else:
        vectorizer = TfidfVectorizer(analyzer=_Tokens())
        features = vectorizer.fit_transform(train)
        model = LogisticRegression(C=INVERSE_REGULARIZATION, class_weight="balanced", max_iter=MAX_ITERATIONS)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            model.fit(features, targets)
        probabilities_NK = model.predict_proba(vectorizer.transform(evaluation))
    return probabilities_NK, _gold(evaluation, labels), labels.tolist(), _subgroups(evaluation)


class _Tokens:
    """Case -> tokens of what a model reads too: the vignette or question, or else the findings, each as a whole."""

    def __init__(self) -> None:
        from sklearn.feature_extraction.text import CountVectorizer

        self._words = CountVectorizer(ngram_range=(1, 2)).build_analyzer()

    def __call__(self, case: Case) -> list[str]:
        if case.text:
            return self._words("\n".join((case.text, *case.options)))
        found = (f"found {finding}" for finding in case.findings)
        excluded = (f"excluded {finding}" for finding in case.excluded)
        return [f"sex {case.sex}", *found, *excluded]


def _labelled(cases: Iterable[Case]) -> list[Case]:
    return [case for case in cases if case.label is not None]


def _gold(cases: list[Case], labels: Any) -> Ints:
    index = {label: k for k, label in enumerate(labels)}
    return np.array([index.get(case.label, NOT_A_CLASS) for case in cases])


def _subgroups(cases: list[Case]) -> dict[str, list[str]]:
    return subgroup_columns([case.subgroups for case in cases])
