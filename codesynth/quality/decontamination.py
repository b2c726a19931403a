"""Finds what a text has in common with the items of a benchmark.

Compared are words as in ``novelty_words``: without case, punctuation and white space. Evidence is

- a run of ``ngram`` words: 13 in GPT-3 (https://arxiv.org/abs/2005.14165, appendix C) and in
  EleutherAI's evaluation harness;
- a whole string of an item, or a whole text, of 8 words or more (GPT-3's shortest n-gram).
  StarCoder looks for whole docstrings and solutions; of HumanEval's solutions, those under 8 words
  are such as ``return sorted(list(set(l)))``, and task ids and entry points are shorter too.

No evidence is what more than 10 items of one file share (GPT-3's bound for common n-grams), and
what holds fewer than 3 different words: in HumanEval and in unrelated stubs alike, the other runs
of 13 were numbers and letters in a row, as in ``[1, 2, 3, ...]``.

Texts are compared with the names of their functions and without, so a renamed copy is found.
"""

from __future__ import annotations

import itertools
from array import array
from bisect import bisect_right
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from codesynth.errors import ConfigError, InputError
from codesynth.quality.decontamination_items import Passage, read_passages
from codesynth.quality.novelty_words import nameless, words
from codesynth.storage.records import name_of

_WHOLE = 8
_COMMON = 10
_DIFFERENT = 3
_BREAK = 0  # stands between passages; also any word that no benchmark has


@dataclass(frozen=True, slots=True)
class Contamination:
    """What a text has in common with an item of a benchmark.

    Attributes:
        where: file and line of the item.
        item: its ``task_id``, ``id`` or ``name``, where it has one.
        overlap: the words in common, in lower case, no more than make the evidence.
    """

    where: str
    item: str | None
    overlap: str

    def __str__(self) -> str:
        """Word it for people."""
        name = f" ({self.item})" if self.item else ""
        return f'shared with {self.where}{name}: "{self.overlap}"'


class Decontaminator:
    """Compares texts with all that the items of some benchmarks say.

    A word of a benchmark costs 16 to 24 bytes, twice that in a string that defines functions.

    Args:
        paths: of the benchmarks: JSONL, one JSON array, or text; gzip too.
        ngram: words in a row that are evidence.

    Raises:
        ConfigError: ``ngram`` is too small.
        InputError: a file cannot be read, or holds nothing to compare with.
    """

    def __init__(self, paths: Sequence[str], ngram: int = 13) -> None:
        if ngram < _DIFFERENT:
            raise ConfigError(f"n-grams of {ngram} words are everywhere. Take 13, or 3 at least")
        self._paths = paths
        self._ngram = ngram
        self._window = min(ngram, _WHOLE)
        self._vocabulary: dict[str, int] = {}
        self._words = array("I")  # of all strings, one after the other, breaks between
        self._starts = array("I")  # of each string or line of text
        self._lines = array("I")
        self._files = array("I")
        self._names: dict[tuple[int, int], str] = {}
        for file, path in enumerate(paths):
            before = len(self._starts)
            for passage in read_passages(path):
                self._add(file, passage)
            if before == len(self._starts):
                raise InputError(f"{path}: there are no words to compare with")
        self._index()

    def _add(self, file: int, passage: Passage) -> None:
        texts = [text for _, text in passage.lines]
        variants = [texts]
        if len(texts) == 1 and (anonymous := nameless(texts[0])) != texts[0]:
            variants.append([anonymous])
        for variant in variants:
            for (line, _), text in zip(passage.lines, variant, strict=True):
                numbers = [self._number(word) for word in words(text)]
                if numbers:
                    self._starts.append(len(self._words))
                    self._lines.append(line)
                    self._files.append(file)
                    self._words.extend(numbers)
            self._words.append(_BREAK)
        if passage.name is not None:
            self._names[file, passage.lines[0][0]] = passage.name

    def _number(self, word: str) -> int:
        return self._vocabulary.setdefault(word, len(self._vocabulary) + 1)

    def _index(self) -> None:
        """Chain windows of equal hash: a slot names the last one, each the one before; 0 ends it.

        Positions count from 1 there.
        """
        self._mask = (2 << len(self._words).bit_length()) - 1
        self._slots = array("I", bytes(4 * (self._mask + 1)))
        self._before = array("I", bytes(4 * len(self._words)))
        for position, window in enumerate(_windows(self._words, self._window)):
            if _BREAK not in window:
                slot = hash(window) & self._mask
                self._before[position] = self._slots[slot]
                self._slots[slot] = position + 1

    def judge(self, text: str) -> Contamination | None:
        """Tell what ``text`` shares with a benchmark; None where that is no evidence."""
        for variant in dict.fromkeys((text, nameless(text))):
            tokens = words(variant)
            numbers = [self._vocabulary.get(word, _BREAK) for word in tokens]
            slots = map(self._mask.__and__, map(hash, _windows(numbers, self._window)))
            for i, last in enumerate(map(self._slots.__getitem__, slots)):
                if last and (found := self._evidence(tokens, numbers, i, last)):
                    return found
        return None

    def _evidence(
        self, tokens: list[str], text: list[int], i: int, last: int
    ) -> Contamination | None:
        """Tell what ``text`` shares from word ``i`` on with the first of the items that do."""
        if _BREAK in text[i : i + self._window]:
            return None
        items: set[tuple[int, int]] = set()
        first = longest = 0
        while last:
            start = last - 1
            last = self._before[start]
            run = self._run(text, i, start)
            if not run:
                continue
            field = bisect_right(self._starts, start) - 1
            whole = run == len(text) or run == self._length(field, start)
            if run == self._ngram or (whole and run >= _WHOLE):
                first, longest = field, run
                items.add((self._files[field], self._lines[field]))
                if len(items) > _COMMON and _is_common(items):
                    return None
        overlap = tokens[i : i + longest]
        if len({word for word in overlap if _is_word(word)}) < _DIFFERENT:
            return None
        item = self._files[first], self._lines[first]
        where = f"{name_of(self._paths[item[0]])}:{item[1]}"
        return Contamination(where, self._names.get(item), " ".join(overlap))

    def _run(self, text: list[int], i: int, start: int) -> int:
        """Count the words in common from ``i`` and ``start`` on, as far as an n-gram goes."""
        run = 0
        for mine in text[i : i + self._ngram]:
            if mine != self._words[start + run] or mine == _BREAK:
                break
            run += 1
        return run if run >= self._window else 0

    def _length(self, field: int, start: int) -> int:
        """Count the words of a field; 0 where it does not begin at ``start``."""
        if self._starts[field] != start:
            return 0
        last = field + 1 == len(self._starts)
        end = len(self._words) if last else self._starts[field + 1]
        while self._words[end - 1] == _BREAK:
            end -= 1
        return end - start


def _windows(numbers: Iterable[int], size: int) -> Iterator[tuple[int, ...]]:
    return zip(*(itertools.islice(numbers, k, None) for k in range(size)), strict=False)


def _is_common(items: Iterable[tuple[int, int]]) -> bool:
    return max(Counter(file for file, _ in items).values()) > _COMMON


def _is_word(token: str) -> bool:
    """Tell words from numbers and from single Latin letters."""
    return token[0].isalpha() and (len(token) > 1 or not token.isascii())
