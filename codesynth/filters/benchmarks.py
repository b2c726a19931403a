"""Read the strings of a benchmark: JSON Lines, one JSON array, or plain text."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

from codesynth.codec import loads


class Passage(NamedTuple):
    """A string of one item, or a line of a plain text, whose sentence may go on in the next line.

    Attributes:
        line: its number, from 1; in a JSON array, the number of the element.
        item: the item's ``task_id``, ``id`` or ``name``; empty without one.
    """

    line: int
    item: str
    text: str
    is_line: bool = False


def read_passages(lines: Iterable[tuple[int, bytes]]) -> Iterator[Passage]:
    """Read all strings of a benchmark from its lines and their numbers."""
    values = [(number, line, _parse(line)) for number, line in lines]
    if values and (len(values) == 1 or values[0][2] is None):
        whole = _parse(b"\n".join(line for _, line, _ in values))
        if isinstance(whole, list):
            values = [(number, b"", element) for number, element in enumerate(whole, 1)]
    for number, line, value in values:
        if value is None:
            yield Passage(number, "", line.decode("utf-8", "replace"), is_line=True)
            continue
        named = value if isinstance(value, dict) else {}
        names = [str(named[key]) for key in ("task_id", "id", "name") if key in named]
        for text in _strings(value):
            yield Passage(number, "".join(names[:1]), text)


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
