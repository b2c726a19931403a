"""Reject texts that are in a benchmark.

A text is rejected if it shares with an item

- ``ngram`` words in sequence: 13 in GPT-3 (https://arxiv.org/abs/2005.14165, appendix C);
- or a whole string of the item, or the whole text, of 8 words or more: so 144 of HumanEval's 164
  solutions are found, without this rule 126;
- or one of these after the names of functions were replaced: so all 164 prompts of HumanEval are
  found if the function is renamed, without this rule 146.

The shared words must have 3 different ones, not counting numbers and single letters: else any
``[1, 2, 3, ...]`` would do. Of 1,557 texts unrelated to HumanEval, 2 are rejected.
"""

from __future__ import annotations

import itertools
from array import array
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from codesynth.codec import loads
from codesynth.errors import InputError
from codesynth.filters.words import without_names, words
from codesynth.models import Failure

_WHOLE = 8
_DIFFERENT = 3
_BREAK = 0  # between two strings, and in place of words that no benchmark has


class ContaminationFilter:
    """Rejects texts that share too much with an item of a benchmark; see the module.

    A word of a benchmark takes 16 to 24 bytes; twice that in a string that defines functions.

    Args:
        benchmarks: for each name, shown to people: the lines and their numbers.
        ngram: number of shared words in sequence that is too much; at least 3.

    Raises:
        InputError: a benchmark cannot be read, or has no words.

    >>> lines = [(1, b'{"task_id": "T/1", "prompt": "Return the sum of all the even numbers."}')]
    >>> contamination = ContaminationFilter({"bench.jsonl": lines})
    >>> contamination.reject("Hi! Return the sum of all the even numbers!").message
    'shared with bench.jsonl:1 (T/1): "return the sum of all the even numbers"'
    """

    def __init__(
        self, benchmarks: Mapping[str, Iterable[tuple[int, bytes]]], ngram: int = 13
    ) -> None:
        self._ngram = ngram
        self._window = min(ngram, _WHOLE)
        self._vocabulary: dict[str, int] = {}
        self._is_distinctive = bytearray(1)  # for each word: 1 unless it is a number or a letter
        self._words = array("I", [_BREAK])  # of all strings, breaks between them
        self._starts, self._items = array("I"), list[str]()  # of each string: first word, item
        for name, lines in benchmarks.items():
            before = len(self._items)
            for place, text in _read_strings(lines, name):
                for variant in dict.fromkeys((text, without_names(text))):
                    self._add(place, words(variant))
            if before == len(self._items):
                raise InputError(f"{name}: it has no words to compare with")
        self._index()

    def reject(self, text: str) -> Failure | None:
        """Say what a text shares with a benchmark; None accepts it."""
        for variant in dict.fromkeys((text, without_names(text))):
            tokens = words(variant)
            numbers = [self._vocabulary.get(word, _BREAK) for word in tokens]
            slots = map(self._mask.__and__, map(hash, _windows(numbers, self._window)))
            for i, position in enumerate(map(self._slots.__getitem__, slots)):
                while position:  # 0 is a break, so it ends the chain
                    if (run := self._evidence(numbers, i, position)) is not None:
                        item = self._items[bisect_right(self._starts, position) - 1]
                        shared = " ".join(tokens[run.start : run.stop][: self._ngram])
                        return Failure("contaminated", f'shared with {item}: "{shared}"')
                    position = self._before[position]
        return None

    def _add(self, item: str, text: list[str]) -> None:
        if text:
            self._starts.append(len(self._words))
            self._items.append(item)
            self._words.extend([*map(self._number, text), _BREAK])

    def _number(self, word: str) -> int:
        number = self._vocabulary.setdefault(word, len(self._is_distinctive))
        if number == len(self._is_distinctive):
            self._is_distinctive.append(word[0].isalpha() and (len(word) > 1 or not word.isascii()))
        return number

    def _index(self) -> None:
        """Make the hash table: a slot has the last position, ``_before`` those before it."""
        self._mask = (2 << len(self._words).bit_length()) - 1
        self._slots = array("I", bytes(4 * (self._mask + 1)))
        self._before = array("I", bytes(4 * len(self._words)))
        for position, window in enumerate(_windows(self._words, self._window)):
            different = {number for number in window if self._is_distinctive[number]}
            if len(different) >= _DIFFERENT and _BREAK not in window:
                slot = hash(window) & self._mask
                self._before[position] = self._slots[slot]
                self._slots[slot] = position

    def _evidence(self, text: list[int], i: int, position: int) -> range | None:
        """Find the shared words around ``i`` and ``position``; None if they are too few."""
        shift = position - i
        first, end = i, i
        while end < len(text) and text[end] == self._words[end + shift] != _BREAK:
            end += 1
        if end - i < self._window:
            return None  # another window with the same hash
        while first > 0 and text[first - 1] == self._words[first + shift - 1] != _BREAK:
            first -= 1
        is_string = self._words[first + shift - 1] == self._words[end + shift] == _BREAK
        is_whole = is_string or end - first == len(text)
        return range(first, end) if is_whole or end - first >= self._ngram else None


def _windows(numbers: Iterable[int], size: int) -> Iterator[tuple[int, ...]]:
    return zip(*(itertools.islice(numbers, k, None) for k in range(size)), strict=False)


def _read_strings(lines: Iterable[tuple[int, bytes]], name: str) -> Iterator[tuple[str, str]]:
    """Yield each string of a benchmark with its place, such as ``b.jsonl:7 (HumanEval/6)``."""
    numbered = list(lines)
    whole = b"\n".join(line for _, line in numbered)
    try:
        if whole[:1] == b"{":
            items = [(number, loads(line)) for number, line in numbered]
        elif whole[:1] == b"[":
            items = [*enumerate(loads(whole), 1)]
        else:
            items = [(1, whole.decode("utf-8", "replace"))]
    except ValueError as exc:
        raise InputError(f"{name}: it begins as JSON does, but cannot be read: {exc}") from exc
    for number, item in items:
        named = item if isinstance(item, dict) else {}
        known = [f" ({named[key]})" for key in ("task_id", "id", "name") if key in named]
        for text in _strings(item):
            yield f"{name}:{number}{''.join(known[:1])}", text


def _strings(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, (dict, list)):
        for each in value.values() if isinstance(value, dict) else value:
            yield from _strings(each)
