"""Reject texts that are in a benchmark.

A text is rejected if it shares with an item

- ``ngram`` words in sequence: 13 in GPT-3 (https://arxiv.org/abs/2005.14165, appendix C);
- or a whole string of the item of 8 words or more: so 144 of HumanEval's 164 solutions are found,
  without this rule 126;
- or one of these after the names of functions were replaced: so all 164 prompts of HumanEval are
  found if the function is renamed, without this rule 146.

The shared words must have 3 different ones, not counting numbers and single letters: else any
``[1, 2, 3, ...]`` would do.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from codesynth.codec import loads
from codesynth.errors import InputError
from codesynth.filters.words import without_names, words
from codesynth.models import Failure

_WHOLE = 8
_DIFFERENT = 3


class ContaminationFilter:
    """Rejects texts that share too much with an item of a benchmark; see the module.

    A word of a benchmark takes about 200 bytes; twice that in a string that defines functions.

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
        self._ngram, self._least = ngram, min(ngram, _WHOLE)
        self._items: list[str] = []
        self._sizes: set[int] = set()
        self._known: dict[int, int] = {}  # hash of words in sequence -> the first item with them
        self._starts: set[int] = set()  # hashes of the first words of these: most texts have none
        for name, lines in benchmarks.items():
            before = len(self._items)
            for item, text in _read_strings(lines, name):
                for variant in _variants(text):
                    self._add(item, variant)
            if before == len(self._items):
                raise InputError(f"{name}: it has no words to compare with")

    def _add(self, item: str, text: Sequence[str]) -> None:
        size = min(self._ngram, len(text))
        if not size:
            return
        self._items.append(item)
        if size < self._least:
            return
        self._sizes.add(size)
        number = len(self._items) - 1
        for window in _windows(text, size):
            different = {word for word in window if len(word) > 1 or not word.isascii()}
            if sum(word[0].isalpha() for word in different) >= _DIFFERENT:
                self._known.setdefault(hash(window), number)
                self._starts.add(hash(window[: self._least]))

    def reject(self, text: str) -> Failure | None:
        """Say what a text shares with a benchmark; None accepts it."""
        for variant in _variants(text):
            if self._starts.isdisjoint(map(hash, _windows(variant, self._least))):
                continue
            for size in sorted(self._sizes, reverse=True):
                for window in _windows(variant, size):
                    if (number := self._known.get(hash(window))) is not None:
                        words_of_item = f'{self._items[number]}: "{" ".join(window)}"'
                        return Failure("contaminated", f"shared with {words_of_item}")
        return None


def _variants(text: str) -> Iterator[list[str]]:
    """Split a text into words, as it is and with the names of its functions replaced."""
    return map(words, dict.fromkeys((text, without_names(text))))


def _windows(text: Sequence[str], size: int) -> Iterator[tuple[str, ...]]:
    return zip(*(itertools.islice(text, k, None) for k in range(size)), strict=False)


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
