"""Reject a row that repeats another one, or is too similar to it."""

from __future__ import annotations

from collections.abc import Iterable

from codesynth.errors import ConfigError
from codesynth.filters.rouge_index import RougeIndex
from codesynth.filters.words import fingerprint, words
from codesynth.models import Failure

_EXCERPT = 80


class NoveltyFilter:
    r"""Accepts texts that are unlike the pool and unlike all texts accepted before.

    Which of two similar texts is accepted depends on the order of the rows alone. Nothing is
    stored: a run that resumes compares the rows of the earlier run again, in the same order.

    Args:
        threshold: the ROUGE-L F1 from which a text is too similar, above 0 and at most 1. None
            rejects only texts that differ from another in white space, case and names alone.
        pool: texts to compare with.

    Raises:
        ConfigError: the threshold is out of range.

    >>> novelty = NoveltyFilter(0.7, ["Return the sum of two numbers."])
    >>> novelty.reject("Return the product of two numbers.").message
    'ROUGE-L 0.83 with pool row 1: Return the sum of two numbers.'
    >>> novelty.reject("Sort words by length.")
    >>> novelty.reject("sort words\nby length.").message
    'the same as accepted row 1: Sort words by length.'
    """

    def __init__(self, threshold: float | None, pool: Iterable[str] = ()) -> None:
        if threshold is not None and not 0 < threshold <= 1:
            words_of_range = "Take a ROUGE-L score above 0 and at most 1, such as 0.7"
            raise ConfigError(f"novelty {threshold:g} is out of range. {words_of_range}")
        self._index = None if threshold is None else RougeIndex(threshold)
        self._fingerprints: dict[bytes, int] = {}
        self._beginnings: list[str] = []  # of the pool's texts, then of the accepted ones
        for text in pool:
            self._add(text, fingerprint(text), words(text))
        self._pool_size = len(self._beginnings)

    def reject(self, text: str) -> Failure | None:
        """Say what a text repeats; None accepts it, and later texts are compared with it."""
        key, its_words = fingerprint(text), words(text)
        if (equal := self._fingerprints.get(key)) is not None:
            return Failure("duplicate", f"the same as {self._describe(equal)}")
        if self._index and (found := self._index.closest(its_words)):
            score, number = found
            return Failure("duplicate", f"ROUGE-L {score:.2f} with {self._describe(number)}")
        self._add(text, key, its_words)
        return None

    def _add(self, text: str, key: bytes, its_words: list[str]) -> None:
        self._fingerprints.setdefault(key, len(self._beginnings))
        self._beginnings.append(" ".join(text[: 4 * _EXCERPT].split())[:_EXCERPT])
        if self._index:
            self._index.add(its_words)

    def _describe(self, number: int) -> str:
        kind, first = ("pool", 0) if number < self._pool_size else ("accepted", self._pool_size)
        return f"{kind} row {number - first + 1}: {self._beginnings[number]}"
