"""Read the strings of a benchmark: JSON Lines, one JSON array, or plain text."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import groupby
from typing import Any

from codesynth.codec import loads


def read_strings(lines: Iterable[tuple[int, bytes]]) -> Iterator[tuple[str, str]]:
    """Yield each string of a benchmark, with the place of its item for people.

    The place is the number of the line (in a JSON array, of the element) and the item's
    ``task_id``, ``id`` or ``name``. Lines of plain text that follow each other are one string.
    """
    numbered = list(lines)
    items = [(number, _parse(line) or line) for number, line in numbered]
    if isinstance(whole := _parse(b"\n".join(line for _, line in numbered)), list):
        items = list(enumerate(whole, 1))
    for is_text, group in groupby(items, lambda item: isinstance(item[1], bytes)):
        if is_text:
            numbers, texts = zip(*group, strict=True)
            yield str(numbers[0]), b"\n".join(texts).decode("utf-8", "replace")
            continue
        for number, value in group:
            named = value if isinstance(value, dict) else {}
            names = [f" ({named[key]})" for key in ("task_id", "id", "name") if key in named]
            for text in _strings(value):
                yield f"{number}{''.join(names[:1])}", text


def _parse(text: bytes | str) -> Any:
    """Parse a JSON object or array; None for any other text."""
    try:
        return loads(text) if text[:1] in (b"{", b"[", "{", "[") else None
    except ValueError:
        return None


def _strings(value: Any) -> Iterator[str]:
    """Yield the strings within a value; some data sets hold JSON in a string."""
    if isinstance(value, str):
        inner = _parse(value)
        if inner is None:
            yield value
        else:
            yield from _strings(inner)
    elif isinstance(value, (dict, list)):
        for each in value.values() if isinstance(value, dict) else value:
            yield from _strings(each)
