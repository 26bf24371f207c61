"""The analyzer that finds identifiers: Presidio's engine, with the recognizers chosen and written for clinical text.

Text flows in, typed spans with scores flow out. Nothing is downloaded: patterns, context words and rules only, over a
plain word splitter in place of a language model.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

from distmed.errors import UserError
from distmed.prepare.identifiers import PATTERNS
from distmed.prepare.names import find_names

THRESHOLD = 0.5
BLOCK_CHARS = 4000
"""Long texts are analyzed in blocks: Presidio's search for context words takes a time that is quadratic in the length."""

_BREAK = re.compile(r"\n|(?<=[.;]) ")
_WORD = re.compile(r"\w+|[^\w\s]")
_LANGUAGE = "en"


class Span(NamedTuple):
    """Characters `start` to `end` of a text are an identifier of this type."""

    start: int
    end: int
    kind: str
    score: float


def require_presidio() -> None:
    """Raises UserError if the extra `privacy` is not installed."""
    import importlib.util

    if importlib.util.find_spec("presidio_analyzer") is None:
        raise UserError(
            "de-identification needs Presidio, which is not installed",
            "pip install 'distmed[privacy]', or --no-deidentify for text without patients",
        )


class Analyzer:
    """Finds identifiers in English clinical text; loading takes about two seconds."""

    def __init__(self) -> None:
        require_presidio()
        logging.getLogger("presidio-analyzer").setLevel(logging.ERROR)
        self._engine = _engine()

    def spans(self, text: str) -> list[Span]:
        """The identifiers in order, without overlap: those that overlap become one, of the kind of the surest."""
        found = sorted(span for start, block in _blocks(text) for span in self._in_block(block, start))
        joined: list[Span] = []
        for span in found:
            if joined and span.start < joined[-1].end:
                last = joined.pop()
                surest = max(last, span, key=lambda s: (s.score, s.end - s.start))
                span = Span(last.start, max(last.end, span.end), surest.kind, surest.score)
            joined.append(span)
        return joined

    def _in_block(self, block: str, start: int) -> Iterator[Span]:
        if not block.strip():
            return
        for result in self._engine.analyze(block, _LANGUAGE, score_threshold=THRESHOLD):
            yield Span(start + result.start, start + result.end, result.entity_type, round(result.score, 4))


def _blocks(text: str) -> Iterator[tuple[int, str]]:
    start = 0
    while len(text) - start > BLOCK_CHARS:
        ends = [match.end() for match in _BREAK.finditer(text, start + BLOCK_CHARS // 2, start + BLOCK_CHARS)]
        end = ends[-1] if ends else start + BLOCK_CHARS
        yield start, text[start:end]
        start = end
    yield start, text[start:]


def _engine() -> Any:
    from presidio_analyzer import (
        AnalyzerEngine,
        LocalRecognizer,
        Pattern,
        PatternRecognizer,
        RecognizerRegistry,
        RecognizerResult,
    )
    from presidio_analyzer.context_aware_enhancers import LemmaContextAwareEnhancer
    from presidio_analyzer.nlp_engine import NlpArtifacts, NlpEngine
    from presidio_analyzer.predefined_recognizers import (
        CreditCardRecognizer,
        IpRecognizer,
        MacAddressRecognizer,
        UsNpiRecognizer,
        UsSsnRecognizer,
    )

    class Words(NlpEngine):
        """Splits into words: all that the search for context words needs. (A blank spaCy pipeline does it too, but its
        store of strings grows with every new number.)"""

        def load(self) -> None:
            """Nothing to load."""

        def is_loaded(self) -> bool:
            return True

        def process_text(self, text: str, language: str) -> NlpArtifacts:
            words = list(_WORD.finditer(text))
            return NlpArtifacts(
                entities=[],
                tokens=[match[0] for match in words],  # type: ignore[arg-type]
                tokens_indices=[match.start() for match in words],
                lemmas=[match[0].lower() for match in words],
                nlp_engine=self,
                language=language,
            )

        def process_batch(
            self, texts: Iterable[str], language: str, batch_size: int = 1, n_process: int = 1, **_: Any
        ) -> Iterator[tuple[str, NlpArtifacts]]:
            for text in texts:
                yield text, self.process_text(text, language)

        def is_stopword(self, word: str, language: str) -> bool:
            return False

        def is_punct(self, word: str, language: str) -> bool:
            return not word[:1].isalnum()

        def get_supported_entities(self) -> list[str]:
            return []

        def get_supported_languages(self) -> list[str]:
            return [_LANGUAGE]

    class NameRecognizer(LocalRecognizer):
        """Names of persons, by `names.py`."""

        def load(self) -> None:
            """Nothing to load."""

        def analyze(self, text: str, entities: list[str], nlp_artifacts: Any = None) -> list[RecognizerResult]:
            return [
                RecognizerResult(
                    entity_type="NAME",
                    start=start,
                    end=end,
                    score=score,
                    recognition_metadata={
                        RecognizerResult.RECOGNIZER_NAME_KEY: "names",
                        RecognizerResult.RECOGNIZER_IDENTIFIER_KEY: self.id,
                    },
                )
                for start, end, score in find_names(text)
            ]

    recognizers: list[Any] = [
        PatternRecognizer(
            supported_entity=kind,
            name=f"{kind} patterns",
            patterns=[Pattern(f"{kind} {i}", found, score) for i, (found, score) in enumerate(patterns.found)],
            context=list(patterns.context),
            global_regex_flags=re.MULTILINE,
        )
        for kind, patterns in PATTERNS.items()
    ]
    recognizers += [
        NameRecognizer(supported_entities=["NAME"], name="names"),
        CreditCardRecognizer(supported_entity="ACCOUNT"),
        IpRecognizer(supported_entity="IP"),
        MacAddressRecognizer(supported_entity="DEVICE"),
        UsNpiRecognizer(supported_entity="LICENSE"),
        UsSsnRecognizer(supported_entity="SSN"),
    ]
    return AnalyzerEngine(
        registry=RecognizerRegistry(recognizers, supported_languages=[_LANGUAGE]),
        nlp_engine=Words(),
        context_aware_enhancer=LemmaContextAwareEnhancer(context_matching_mode="whole_word"),
        supported_languages=[_LANGUAGE],
    )
