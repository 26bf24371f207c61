"""The words of a case, folded, so that the same text in another layout counts as the same.

Cases flow in; plain text, folded text and arrays of hashes over runs of words or characters flow out. Deduplication and
decontamination compare these.
"""

from __future__ import annotations

import re
import unicodedata

import numpy as np
import xxhash
from numpy.typing import NDArray

from distmed.cases.case import Case
from distmed.cases.prompts import lettered

_NO_WORD = re.compile(r"[\W_]+")
SIGNS = "+<>=-"
_SIGN = r"[+<>=]|(?<=[^\W_])-(?![^\W_])|(?<=\()-"
_WORD_OR_SIGN = re.compile(rf"[^\W_]+|{_SIGN}")
_BASE = 0x9E3779B97F4A7C15  # odd, so that it has an inverse modulo 2^64
_INVERSE = pow(_BASE, -1, 2**64)


def wording(case: Case) -> str:
    """What is particular to the case in all that a model reads or writes of it; empty for a case of findings alone.

    What the user says mostly stands in `text` too, or `text` in it; what the system says is the same in every case.
    """
    written = [
        content
        for role, content in case.messages
        if role == "assistant"
        or (role == "user" and not (case.text and (content in case.text or case.text in content)))
    ]
    return "\n".join(part for part in (case.text, *case.options, *written) if part)


def wordings(case: Case) -> list[str]:
    """`wording`, and a question also as it is put to a model: another data set may hold it either way."""
    bare = wording(case)
    return [text for text in (bare, lettered(case) if case.options else "") if text]


def folded(text: str) -> str:
    """Lower case without marks: words with one space between them."""
    return _NO_WORD.sub(" ", unicodedata.normalize("NFKC", text).casefold()).strip()


def folded_with_signs(text: str) -> str:
    """As `folded`, and the signs of a result, each a word: "HER2-" is not "HER2+", "BNP >100" not "BNP <100".

    A minus counts after a word or a "(", unless it joins two words; before a word it may be the mark of a list.
    """
    text = unicodedata.normalize("NFKC", text).casefold().replace("\N{MINUS SIGN}", "-")
    return " ".join(_WORD_OR_SIGN.findall(text))


def hash_of(*parts: str) -> int:
    return _hash("\0".join(parts))


def word_runs(words: list[str], length: int) -> NDArray[np.uint64]:
    """A hash for each run of `length` words, in order."""
    return _runs(np.array([_hash(word) for word in words], dtype=np.uint64), length)


def character_runs(text: str, length: int) -> NDArray[np.uint64]:
    """A hash for each run of `length` characters, in order."""
    return _runs(
        _mixed(np.frombuffer(text.encode("utf-32-le", "surrogatepass"), dtype="<u4").astype(np.uint64)), length
    )


def _hash(text: str) -> int:
    return xxhash.xxh3_64_intdigest(text.encode("utf-8", "surrogatepass"))


def _runs(items_N: NDArray[np.uint64], length: int) -> NDArray[np.uint64]:
    """Rolling polynomial hash: (P[i + length] - P[i]) · base^-i modulo 2^64, with P the prefix sums of item[j] · base^j."""
    n = len(items_N)
    if n < length:
        return np.empty(0, dtype=np.uint64)
    prefix_N1 = np.zeros(n + 1, dtype=np.uint64)
    np.cumsum(items_N * _powers(_BASE, n), out=prefix_N1[1:])
    return _mixed((prefix_N1[length:] - prefix_N1[:-length]) * _powers(_INVERSE, n + 1 - length))


def _powers(base: int, n: int) -> NDArray[np.uint64]:
    factors = np.full(n, base, dtype=np.uint64)
    factors[0] = 1
    return np.cumprod(factors, dtype=np.uint64)


def _mixed(values_N: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """SplitMix64's finalizer (Steele et al. 2014, doi:10.1145/2660193.2660195)."""
    values_N = (values_N ^ (values_N >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values_N = (values_N ^ (values_N >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values_N ^ (values_N >> np.uint64(31))
