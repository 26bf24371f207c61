"""ChoiceScorer: every way of answering a question, for one model in memory.

Cases of kind `choice` flow in; one row each flows out, with the columns that predictions.parquet gets beside those of all
predictions. No text of a question is in them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from distmed.cases.case import Case
from distmed.errors import UserError
from distmed.evaluate.choice.extract import extract
from distmed.evaluate.choice.generate import generate
from distmed.evaluate.choice.likelihood import Likelihoods
from distmed.evaluate.choice.questions import Question, Questions
from distmed.evaluate.choice.shots import Shots
from distmed.evaluate.choice.tokens import Request, Splitter, Tokens, cut

if TYPE_CHECKING:
    from distmed.evaluate.loading import Loaded

Row = dict[str, Any]

COLUMNS: dict[str, pa.DataType] = {
    # log p of each letter (or word, where a case has no options), in nats, options in their own order
    "option_loglik": pa.list_(pa.float32()),
    # the same for every rotation s = 0 … K-1, one after the other, by place: option i is shown at place (i + s) mod K
    "rotated_loglik": pa.list_(pa.float32()),
    # log p of each option's text, and what it can be normalized by
    "text_loglik": pa.list_(pa.float32()),
    "text_tokens": pa.list_(pa.int32()),
    "text_chars": pa.list_(pa.int32()),
    # what the model wrote, and the candidate that the extractor found in it
    "generated": pa.string(),
    "parsed": pa.string(),
    # fewer than choice.shots where the prompt would have been too long
    "shots_used": pa.int32(),
    # the candidates, in the order of the likelihoods
    "candidates": pa.list_(pa.string()),
}


@dataclass(frozen=True)
class Asked:
    """All questions about one case as the model reads them. `tokens`: of the first prompt, before anything was cut."""

    requests: list[list[Request]]
    tokens: int
    shots: int
    cut: bool


class ChoiceScorer:
    """Scores cases by the model of `loaded`; examples, if the recipe wants any, come from `shots`."""

    def __init__(self, loaded: Loaded, shots: list[Case]) -> None:
        self.loaded = loaded
        self.settings = loaded.recipe.choice
        if loaded.task != "generate":
            raise UserError(
                "exam questions need a model that writes text, this one classifies", "evaluate a decoder, or other data"
            )
        self.questions = Questions(self.settings, loaded.tokenizer)
        self.split = Splitter(loaded.tokenizer, self.questions.chat)
        self.shots = Shots(shots, self.settings)
        self.likelihoods = Likelihoods(
            loaded.diagnoser, loaded.device, loaded.token_budget, loaded.tokenizer.pad_token_id or 0
        )

    def __call__(self, cases: list[Case]) -> list[Row]:
        """One row a case, in order: predicted, confidence, prompt_hash, tokens, cut, and `COLUMNS`."""
        letters = self._asked(cases, self._rotations)
        texts = self._asked(cases, self._text)
        letter_scores = self._scores(letters)
        text_scores = self._scores(texts)
        written = self._written([asked.requests[0][0].prompt for asked in letters])
        return [
            self._row(case, *parts)
            for case, *parts in zip(cases, letters, letter_scores, texts, text_scores, written, strict=True)
        ]

    def letters(self, cases: list[Case]) -> list[Row]:
        """`predicted` and `confidence` alone, by the letters' likelihoods as the options stand."""
        scores = self._scores(self._asked(cases, lambda case, shots: [self.questions.ask("letter", case, shots)]))
        return [self._answer(case, each[0]) for case, each in zip(cases, scores, strict=True)]

    def about(self) -> dict[str, Any]:
        """How was asked, for the report: templates (which hold no case), examples, chat or not."""
        settings = self.settings.model_dump(include={"shots", "shot_choice", "shot_seed", "max_new_tokens"})
        return {**settings, "chat": self.questions.chat, "templates": dict(self.questions.sources)}

    def _rotations(self, case: Case, shots: Sequence[Case]) -> Iterator[Question]:
        for rotation in range(max(1, len(case.options))):
            yield self.questions.ask("letter", case, shots, rotation)

    def _text(self, case: Case, shots: Sequence[Case]) -> list[Question]:
        return [self.questions.ask("text", case, shots)]

    def _asked(
        self, cases: list[Case], ask: Callable[[Case, Sequence[Case]], Iterator[Question] | list[Question]]
    ) -> list[Asked]:
        """Questions as tokens. One that is too long loses its examples, the farthest first, then its own beginning."""
        limit = self.loaded.recipe.data.seq_len
        shots = self.shots.of(cases)
        asked: list[Asked | None] = [None] * len(cases)
        tokens: dict[int, int] = {}
        pending = list(range(len(cases)))
        while pending:
            questions = [list(ask(cases[number], shots[number])) for number in pending]
            split = iter(self.split([question for each in questions for question in each]))
            still = []
            for number, each in zip(pending, questions, strict=True):
                requests = [next(split) for _ in each]
                whole = tokens.setdefault(number, len(requests[0][0].prompt))
                long = max(request.read for group in requests for request in group) > limit
                if long and shots[number]:
                    shots[number] = shots[number][1:]
                    still.append(number)
                    continue
                if long:
                    requests = [[cut(request, limit) for request in group] for group in requests]
                asked[number] = Asked(requests, whole, len(shots[number]), long)
            pending = still
        return [each for each in asked if each is not None]

    def _scores(self, asked: list[Asked]) -> list[list[list[float]]]:
        """For every case, question and answer its log-likelihood."""
        flat = iter(self.likelihoods([[request for group in each.requests for request in group] for each in asked]))
        scores = []
        for each in asked:
            numbers = iter(next(flat))
            scores.append([[next(numbers) for _ in group] for group in each.requests])
        return scores

    def _written(self, prompts: list[Tokens]) -> list[str]:
        return generate(
            self.loaded.diagnoser.network,
            self.loaded.tokenizer,
            prompts,
            device=self.loaded.device,
            budget=self.loaded.token_budget,
            max_new_tokens=self.settings.max_new_tokens,
        )

    def _answer(self, case: Case, scores: list[float]) -> Row:
        scores_K = np.array(scores)
        shares_K = np.exp(scores_K - scores_K.max())
        return {
            "predicted": self.questions.candidates(case)[int(scores_K.argmax())],
            "confidence": float(shares_K.max() / shares_K.sum()),
        }

    def _row(
        self,
        case: Case,
        letters: Asked,
        letter_scores: list[list[float]],
        texts: Asked,
        text_scores: list[list[float]],
        written: str,
    ) -> Row:
        candidates = self.questions.candidates(case)
        prompt = np.array(letters.requests[0][0].prompt, dtype="<i4")
        return {
            **self._answer(case, letter_scores[0]),
            "prompt_hash": hashlib.sha256(prompt.tobytes()).hexdigest()[:16],
            "tokens": letters.tokens,
            "cut": letters.cut or texts.cut,
            "option_loglik": letter_scores[0],
            "rotated_loglik": [score for rotation in letter_scores for score in rotation],
            "text_loglik": text_scores[0],
            "text_tokens": [len(request.answer) for request in texts.requests[0]],
            "text_chars": [len(text) for text in case.options or candidates],
            "generated": written,
            "parsed": extract(written, candidates, case.options),
            "shots_used": min(letters.shots, texts.shots),
            "candidates": list(candidates),
        }
