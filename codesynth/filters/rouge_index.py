"""Find, among very many texts, the one that is most similar to a new text by ROUGE-L; exactly.

ROUGE-L F1 of texts of m and n words is 2 LCS / (m + n), where LCS is the length of their longest
common subsequence of words. It is at most the number of words that they share, so F1 >= T needs
at least T (m + n) / 2 shared words, and texts that share fewer are skipped. They are counted for
8,192 texts at a time, as in bit-sliced signature files: each word has an integer with one bit for
each text that holds it, and a tree of adders sums the integers of the new text's words. Words
share 2,048 integers, which can only make a count too large. The few texts left are measured.

A text costs 256 bytes and 4 more for each word. 100,000 texts of 90 words are searched in 1 to 3
ms, where rapidfuzz takes 43 and MinHash-LSH finds only 73 % of the texts above 0.7.
"""

from __future__ import annotations

import math
from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence

MAX_WORDS = 10_000
"""Longer texts are compared by their beginning: an LCS takes the product of two lengths."""

_TEXTS = 8192  # in a block: long integers are summed fast, in short ones a bit is set fast
_COLUMNS = 2048
_STRIDE = 509  # between the columns of a word's first, second, ... occurrence in a text
_ROUNDING = 1e-9  # a float's error must not make a text miss the threshold that it reaches


class RougeIndex:
    """Texts as lists of words, numbered from 0 as they are added.

    Args:
        threshold: the least ROUGE-L F1 that counts, above 0 and at most 1.

    >>> index = RougeIndex(0.7)
    >>> index.add("return the sum of two numbers".split())
    >>> index.closest("return the product of two numbers".split())
    (0.8333333333333334, 0)
    """

    def __init__(self, threshold: float) -> None:
        self._threshold = threshold
        self._vocabulary: dict[str, int] = {}
        self._words = array("I")  # of all texts, one after the other
        self._ends = array("Q", [0])
        # Each block has two lists of integers in which bit i belongs to its text i: the texts that
        # hold a word of each column, and the binary digits of the texts' shares, the lowest first.
        self._blocks: list[tuple[list[int], list[int]]] = []

    def add(self, words: Sequence[str]) -> None:
        """Add a text."""
        known, number = self._vocabulary, len(self._ends) - 1
        text = [known.setdefault(word, len(known)) for word in words[:MAX_WORDS]]
        if number % _TEXTS == 0:
            self._blocks.append(([0] * _COLUMNS, []))
        columns, shares = self._blocks[-1]
        bit, share = 1 << number % _TEXTS, self._share(len(text))
        for column in _columns(text):
            columns[column] |= bit
        shares += [0] * (share.bit_length() - len(shares))
        for digit in range(share.bit_length()):
            shares[digit] |= bit * (share >> digit & 1)
        self._words.extend(text)
        self._ends.append(len(self._words))

    def closest(self, words: Sequence[str]) -> tuple[float, int] | None:
        """Return the score and the number of the most similar text; the first of equals.

        None if no text reaches the threshold, or if there are no words.
        """
        known, unknown = self._vocabulary, len(self._vocabulary)
        text = [known.get(word, unknown) for word in words[:MAX_WORDS]]
        candidates = sorted(self._candidates(_columns(text))) if text else []
        common = common_subsequence(text)
        best = -self._threshold, len(self._ends)
        for bound, number in candidates:
            if bound > best[0]:
                break
            other = self._words[self._ends[number] : self._ends[number + 1]]
            best = min(best, (-2 * common(other) / (len(text) + len(other)), number))
        return None if best[1] == len(self._ends) else (-best[0], best[1])

    def _share(self, length: int) -> int:
        """Return what a text's own length adds to the number of words that must be shared."""
        return max(0, math.floor(self._threshold * length / 2 - _ROUNDING))

    def _candidates(self, text: list[int]) -> Iterator[tuple[float, int]]:
        """Yield (the most that its score may be, negated; number) of texts that share enough.

        The complements of the shares, up to ``offset``, are summed with the columns, so that one
        comparison serves texts of any length. ``text`` has the column of each word.
        """
        least = math.ceil(self._threshold * len(text) / 2 - _ROUNDING)
        for block, (columns, shares) in enumerate(self._blocks):
            first = block * _TEXTS
            everyone = (1 << min(_TEXTS, len(self._ends) - 1 - first)) - 1
            offset = (1 << len(shares)) - 1
            held = [bits for column in text if (bits := columns[column])]
            totals = _add_up(held, [everyone ^ bits for bits in shares])
            found = _at_least(least + offset, totals, everyone)
            while found:
                i = found.bit_length() - 1
                found ^= 1 << i
                length = self._ends[first + i + 1] - self._ends[first + i]
                total = sum((bits >> i & 1) << digit for digit, bits in enumerate(totals))
                shared = min(total - offset + self._share(length), length)
                yield -2 * shared / (len(text) + length), first + i


def _columns(text: Iterable[int]) -> list[int]:
    """Choose the column of each word; the second time that a word occurs it has another one."""
    occurrences: dict[int, int] = {}
    columns = []
    for word in text:
        before = occurrences.get(word, 0)
        occurrences[word] = before + 1
        columns.append((word + before * _STRIDE) % _COLUMNS)
    return columns


def _add_up(addends: list[int], digits: Sequence[int]) -> list[int]:
    """Sum bit i of all ``addends`` and the number ``digits`` at i; lowest digit first."""
    sums: list[int] = []
    while addends or len(sums) < len(digits):
        if len(sums) < len(digits):
            addends.append(digits[len(sums)])
        total = addends.pop() if len(addends) % 2 else 0
        carries = []
        rest = iter(addends)
        for a, b in zip(rest, rest, strict=True):
            differ = a ^ b
            carries.append(a & b | differ & total)
            total ^= differ
        sums.append(total)
        addends = carries
    return sums


def _at_least(limit: int, digits: Sequence[int], everyone: int) -> int:
    """Return the bits at which the number ``digits``, lowest digit first, reaches ``limit``."""
    if limit >> len(digits):
        return 0
    above, equal = 0, everyone
    for digit in reversed(range(len(digits))):
        ones = equal & digits[digit]
        if limit >> digit & 1:
            equal = ones
        else:
            above |= ones
            equal ^= ones
    return above | equal


def common_subsequence(words: Sequence[int]) -> Callable[[Iterable[int]], int]:
    """Return a function that returns the length of the longest common subsequence with ``words``.

    Bit-parallel: H. Hyyrö, Bit-parallel LCS-length computation revisited, 2004.

    >>> common_subsequence([1, 2, 3, 4])([3, 1, 2, 5, 4])
    3
    """
    places: dict[int, int] = {}
    for i, word in enumerate(words):
        places[word] = places.get(word, 0) | 1 << i
    everywhere = (1 << len(words)) - 1

    def length(other: Iterable[int]) -> int:
        rest = everywhere
        for word in other:
            if matched := rest & places.get(word, 0):
                rest = rest + matched | rest - matched
        return (~rest & everywhere).bit_count()

    return length
