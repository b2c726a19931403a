"""Lets a text pass only once: neither the same again nor one too much like it."""

import re
from array import array
from collections.abc import Iterable
from dataclasses import dataclass

from codesynth.errors import ConfigError
from codesynth.quality.novelty_index import Coded, RougeIndex
from codesynth.quality.novelty_words import fingerprint, words

_EXCERPT = 80
_IMPORTS = re.compile(r"\A(?:\s*(?:from +\S+ +)?import\b[^\n]*\n)+")


@dataclass(frozen=True, slots=True)
class Duplicate:
    """What a text repeats.

    Attributes:
        of: number of the text it resembles, from 1, in the pool or among those accepted.
        pooled: whether that is one of the pool.
        resembles: how that text begins, its imports left out.
        score: ROUGE-L F1; 1.0 where the two are equal.
        exact: equal but for white space, case and the names of its functions.
    """

    of: int
    pooled: bool
    resembles: str
    score: float
    exact: bool

    def __str__(self) -> str:
        """Word it for people."""
        where = f"{'pool' if self.pooled else 'accepted'} row {self.of}"
        how = "the same as" if self.exact else f"ROUGE-L {self.score:.2f} with"
        return f"{how} {where}: {self.resembles}"


class NoveltyGate:
    r"""Accepts texts that are unlike the pool and all accepted before.

    Which of two look-alikes wins depends on the order of the calls alone. Nothing is stored: a run
    that goes on judges the known answers again, in order.

    Args:
        threshold: the ROUGE-L F1 from which a text is too much like another, above 0 and at
            most 1 (self-instruct takes 0.7); None to reject only texts that are equal to another
            but for white space, case and the names of their functions.

    Raises:
        ConfigError: the threshold is out of range.

    >>> gate = NoveltyGate(0.7)
    >>> gate.seed(["Return the sum of two numbers."])
    >>> print(gate.judge("Return the product of two numbers."))
    ROUGE-L 0.83 with pool row 1: Return the sum of two numbers.
    >>> gate.judge("Sort words by length.") is None
    True
    >>> gate.judge("sort words\nby length.").exact
    True
    """

    def __init__(self, threshold: float | None = None) -> None:
        if threshold is not None and not 0 < threshold <= 1:
            raise ConfigError(
                f"novelty {threshold:g} is out of range. Take a ROUGE-L score above 0 and at most "
                "1, such as 0.7"
            )
        self._index = None if threshold is None else RougeIndex(threshold)
        self._fingerprints: dict[bytes, int] = {}
        self._excerpts: list[str] = []
        self._numbers = array("q")  # from 1; negative in the pool
        self._pooled = self._accepted = 0

    def seed(self, texts: Iterable[str]) -> None:
        """Add texts of the pool, whatever they resemble."""
        for text in texts:
            self._pooled += 1
            self._add(text, -self._pooled, fingerprint(text), self._code(text))

    def judge(self, text: str) -> Duplicate | None:
        """Tell what ``text`` repeats; None where that is nothing, and it is accepted."""
        key = fingerprint(text)
        if (equal := self._fingerprints.get(key)) is not None:
            return self._duplicate(equal, 1.0, exact=True)
        coded = self._code(text)
        if self._index and coded and (found := self._index.closest(coded)):
            score, row = found
            return self._duplicate(row, score, exact=False)
        self._accepted += 1
        self._add(text, self._accepted, key, coded)
        return None

    def _code(self, text: str) -> Coded | None:
        return self._index.code(words(text)) if self._index else None

    def _add(self, text: str, number: int, key: bytes, coded: Coded | None) -> None:
        self._fingerprints.setdefault(key, len(self._numbers))
        self._numbers.append(number)
        self._excerpts.append(_excerpt(text))
        if self._index and coded:
            self._index.add(coded)

    def _duplicate(self, row: int, score: float, *, exact: bool) -> Duplicate:
        number = self._numbers[row]
        return Duplicate(abs(number), number < 0, self._excerpts[row], score, exact)


def _excerpt(text: str) -> str:
    """Cut the beginning of a text to one line of a message."""
    line = " ".join(_IMPORTS.sub("", text[:2000], count=1).split())
    return line if len(line) <= _EXCERPT else line[: _EXCERPT - 3] + "..."
