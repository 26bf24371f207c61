"""Presidio's engine with the recognizers of clinical text, and plain words in place of a language model.

Imported where it is needed only: Presidio is an extra, and takes about two seconds.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Any

import regex
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

from distmed.prepare.identifiers import LANGUAGE, PATTERNS
from distmed.prepare.names import find_names
from distmed.prepare.patterns import TIMEOUT_S, TooSlowError

_WORD = re.compile(r"\w+|[^\w\s]")


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
        return [LANGUAGE]


class NameRecognizer(LocalRecognizer):
    """Names of persons, by `names.py`."""

    def load(self) -> None:
        """Nothing to load."""

    def analyze(self, text: str, entities: list[str], nlp_artifacts: Any = None) -> list[RecognizerResult]:
        try:
            found = list(find_names(text))
        except TimeoutError as error:
            raise TooSlowError from error
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
            for start, end, score in found
        ]


class _Sought:
    """A compiled pattern that does not end in silence: Presidio skips one that raises a TimeoutError."""

    def __init__(self, pattern: str, flags: int) -> None:
        self._regex = regex.compile(pattern, flags)

    def finditer(self, text: str, **_: Any) -> Iterator[Any]:
        try:
            yield from self._regex.finditer(text, timeout=TIMEOUT_S)
        except TimeoutError as error:
            raise TooSlowError from error


def engine() -> AnalyzerEngine:
    """The analyzer, loaded."""
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
    for recognizer in recognizers:
        for pattern in getattr(recognizer, "patterns", ()):
            pattern.compiled_with_flags = recognizer.global_regex_flags
            pattern.compiled_regex = _Sought(pattern.regex, recognizer.global_regex_flags)
    return AnalyzerEngine(
        registry=RecognizerRegistry(recognizers, supported_languages=[LANGUAGE]),
        nlp_engine=Words(),
        context_aware_enhancer=LemmaContextAwareEnhancer(context_matching_mode="whole_word"),
        supported_languages=[LANGUAGE],
    )
