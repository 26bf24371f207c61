"""The section `choice` of metrics.json: accuracy by each way of answering, and how far the place of an option decides.

The rows of predictions.parquet flow in, figures flow out. Questions without a known answer are left out and counted.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from distmed.cases.columns import LETTERS
from distmed.errors import UserError, one_of
from distmed.evaluate.bootstrap import bootstrapped, draws, share
from distmed.evaluate.figure import Figure, undefined
from distmed.evaluate.sample import nan_mean

if TYPE_CHECKING:
    import pyarrow as pa

Row = dict[str, Any]

NEEDED = [
    "group",
    "gold",
    "predicted",
    "candidates",
    "option_loglik",
    "rotated_loglik",
    "text_loglik",
    "text_chars",
    "parsed",
    "shots_used",
]
HARNESS = "lm-evaluation-harness"
SELECTION_BIAS = "Zheng et al. 2024, arXiv:2309.03882"


def choice_section(table: pa.Table) -> dict[str, Any]:
    """Figures over the rows with a gold answer.

    Raises UserError where a likelihood is not finite, or a gold answer is none of the candidates: no model could give it.

    - letter: the letter of highest likelihood (harness: acc of MMLU); text: the option's text of highest likelihood
      (acc of HEAD-QA), text_normalized: divided by its characters (acc_norm).
    - generated: the extractor's answer; `unparsed` counts as wrong, and is a figure of its own.
    - balanced: the accuracy of each way averaged over the answers that are right somewhere (balanced accuracy): 1 / K for a
      model that always gives the same answer, however often that is right.
    - chance: mean of 1 / K; most_frequent: always the letter that is right most often.
    - position_bias: over the cyclic permutations of a question's options; accuracy by the place of the right one, over the
      questions that have this place, and how often it is chosen; `spread` between the best and the worst of the places that all
      have; `flip_rate`: share of questions whose answer changes with the permutation; `debiased`: accuracy of the mean
      probability over the permutations.
    """
    rows = table.select(NEEDED).to_pylist()
    _check_finite(rows)
    known = [row for row in rows if row["gold"] is not None]
    _check_gold(known)
    if not known:
        return {"n": 0, "unlabelled": len(rows), "letter": undefined("undefined, n=0")}

    groups = [row["group"] for row in known]
    weights_BN = draws(groups)

    def share_of(hits: Sequence[bool], **more: str) -> Figure:
        return share(np.array(hits), weights_BN, groups, **more)

    def accuracy(way: str, **more: str) -> Figure:
        return share_of([WAYS[way](row) == row["gold"] for row in known], **more)

    golds = [row["gold"] for row in known]
    most_frequent = max(sorted(set(golds)), key=golds.count)
    return {
        "n": len(known),
        "unlabelled": len(rows) - len(known),
        "options": sorted({len(row["candidates"]) for row in known}),
        "letter": accuracy("letter", source=f"{HARNESS}, acc of MMLU"),
        "text": accuracy("text", source=f"{HARNESS}, acc of HEAD-QA"),
        "text_normalized": accuracy("text_normalized", source=f"{HARNESS}, acc_norm: log-likelihood / characters"),
        "generated": accuracy("generated"),
        "unparsed": share_of([row["parsed"] is None for row in known]),
        "balanced": {way: _balanced(known, way, weights_BN) for way in WAYS},
        "chance": float(np.mean([1 / len(row["candidates"]) for row in known])),
        "most_frequent": share_of([gold == most_frequent for gold in golds]),
        "ties": sum(_tied(row["option_loglik"]) for row in known),
        "shots": {
            "mean": float(np.mean([row["shots_used"] for row in known])),
            "least": min(r["shots_used"] for r in known),
        },
        "position_bias": _position_bias([row for row in known if len(row["rotated_loglik"]) > len(row["candidates"])]),
    }


def answers(table: pa.Table) -> dict[str, list[str | None]]:
    """What is answered to each question in each way; None where the extractor found nothing."""
    rows = table.select(["predicted", "candidates", "text_loglik", "text_chars", "parsed"]).to_pylist()
    return {way: [pick(row) for row in rows] for way, pick in WAYS.items()}


def _balanced(rows: list[Row], way: str, weights_BN: np.ndarray) -> Figure:
    golds = sorted({row["gold"] for row in rows})
    right_N = np.array([WAYS[way](row) == row["gold"] for row in rows], dtype=np.float32)
    member_NG = np.array([[row["gold"] == gold for gold in golds] for row in rows], dtype=np.float32)

    def mean(weights_BN: np.ndarray) -> np.ndarray:
        with np.errstate(invalid="ignore"):
            return nan_mean(((weights_BN * right_N) @ member_NG) / (weights_BN @ member_NG))

    value = float(mean(np.ones((1, len(rows)), np.float32))[0])
    return bootstrapped(value, mean(weights_BN), len(rows), len({row["group"] for row in rows}))


def _position_bias(rows: list[Row]) -> dict[str, Any] | None:
    """None where no question has options whose order could change."""
    if not rows:
        return None
    probabilities = [_by_option(row["rotated_loglik"]) for row in rows]
    gold_N = np.array([row["candidates"].index(row["gold"]) for row in rows])
    picks = [p_SK.argmax(axis=1) for p_SK in probabilities]
    flips_N = np.array([len(set(pick_S.tolist())) > 1 for pick_S in picks])
    debiased_N = np.array([p_SK.mean(axis=0).argmax() for p_SK in probabilities]) == gold_N
    options_N = np.array([len(pick_S) for pick_S in picks])
    places, common = int(options_N.max()), int(options_N.min())
    # Over all rotations the right option stands at each place once: at place (gold + s) mod K in rotation s.
    right_NP = np.array(
        [
            [place < len(pick_S) and pick_S[(place - gold) % len(pick_S)] == gold for place in range(places)]
            for pick_S, gold in zip(picks, gold_N, strict=True)
        ]
    )
    chosen_P = [
        float(np.mean([np.mean((pick_S + np.arange(len(pick_S))) % len(pick_S) == place) for pick_S in picks]))
        for place in range(places)
    ]
    groups = [row["group"] for row in rows]
    weights_BN = draws(groups)
    drawn_BP = weights_BN @ right_NP[:, :common].astype(np.float32) / weights_BN.sum(axis=1, keepdims=True)

    def accuracy_at(place: int) -> Figure:
        has = np.flatnonzero(options_N > place)
        return share(right_NP[has, place], weights_BN[:, has], [groups[n] for n in has.tolist()])

    return {
        "n": len(rows),
        "accuracy_by_place": [
            {
                "place": LETTERS[place],
                "chosen": chosen_P[place],
                **accuracy_at(place),
            }
            for place in range(places)
        ],
        "spread": bootstrapped(
            float(np.ptp(right_NP[:, :common].mean(axis=0))),
            np.ptp(drawn_BP, axis=1),
            len(rows),
            len(set(groups)),
            source=SELECTION_BIAS,
        ),
        "flip_rate": share(flips_N, weights_BN, groups),
        "debiased": share(debiased_N, weights_BN, groups, source=SELECTION_BIAS),
    }


def _by_option(rotated_loglik: Sequence[float]) -> np.ndarray:
    """Probabilities [rotation s, option i]: in rotation s option i stands at place (i + s) mod K."""
    options = round(len(rotated_loglik) ** 0.5)
    by_place_SK = np.array(rotated_loglik, dtype=np.float64).reshape(options, options)
    place_SK = (np.arange(options) + np.arange(options)[:, None]) % options
    score_SK = np.take_along_axis(by_place_SK, place_SK, axis=1)
    share_SK = np.exp(score_SK - score_SK.max(axis=1, keepdims=True))
    return np.asarray(share_SK / share_SK.sum(axis=1, keepdims=True))


def _best(row: Row, scores: Sequence[float] | np.ndarray) -> str:
    return str(row["candidates"][int(np.argmax(scores))])


WAYS: dict[str, Callable[[Row], str | None]] = {
    "letter": lambda row: row["predicted"],
    "text": lambda row: _best(row, row["text_loglik"]),
    "text_normalized": lambda row: _best(row, np.array(row["text_loglik"]) / np.maximum(row["text_chars"], 1)),
    "generated": lambda row: row["parsed"],
}
"""The ways in which an answer is read."""


def _tied(scores: Sequence[float]) -> bool:
    return int(np.isclose(scores, max(scores), rtol=0, atol=1e-6).sum()) > 1


def _check_finite(rows: list[Row]) -> None:
    columns = ("option_loglik", "rotated_loglik", "text_loglik")
    broken = sum(not all(np.isfinite(row[column]).all() for column in columns) for row in rows)
    if broken:
        raise UserError(
            f"the scores of {broken} of {len(rows)} questions are not finite",
            "the model has diverged, or overflows in its precision: evaluate an earlier checkpoint",
        )


def _check_gold(rows: list[Row]) -> None:
    strange = sum(row["gold"] not in row["candidates"] for row in rows)
    if strange:
        candidates = one_of(sorted({candidate for row in rows for candidate in row["candidates"]}))
        raise UserError(
            f"the right answer of {strange} of {len(rows)} questions is none of {candidates}",
            "for questions without options set choice.answers to the words that the data answers with",
        )
