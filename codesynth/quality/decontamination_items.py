"""The items of a benchmark: rows of JSON, or lines of a text."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from codesynth.codec import loads
from codesynth.storage.records import name_of, open_input, read_lines

_NAMES = ("task_id", "id", "name")


@dataclass(frozen=True, slots=True)
class Passage:
    """Text that belongs together: one string of a JSON item, or the lines of a text file.

    Attributes:
        name: the JSON item's ``task_id``, ``id`` or ``name``.
        lines: (line number, text); in a JSON array, number of the element.
    """

    name: str | None
    lines: list[tuple[int, str]]


def read_passages(path: str) -> Iterator[Passage]:
    """Yield all strings of a benchmark's items, nested ones too; then what is no JSON, as text.

    A file is JSONL, one JSON array, or text; gzip is unpacked.

    Raises:
        InputError: the file cannot be read.
    """
    with open_input(path) as stream:
        lines = [(number, line) for number, _, line in read_lines(stream, name_of(path))]
    text: list[tuple[int, str]] = []
    for number, line, item in _items(lines):
        if item is None:
            text.append((number, line.decode("utf-8", "replace")))
        for string in _strings(item):
            yield Passage(_name(item), [(number, string)])
    yield Passage(None, text)


def _items(lines: list[tuple[int, bytes]]) -> Iterator[tuple[int, bytes, Any]]:
    """Yield (number, line, what it holds, None for text); for one array, its elements."""
    if lines and (len(lines) == 1 or _parse(lines[0][1]) is None):
        whole = _parse(b"\n".join(line for _, line in lines))
        if whole is not None:
            elements = whole if isinstance(whole, list) else [whole]
            yield from ((n, b"", element) for n, element in enumerate(elements, 1))
            return
    for number, line in lines:
        yield number, line, _parse(line)


def _parse(text: bytes | str) -> Any:
    """Parse a JSON object or array; None for any other text."""
    if text[:1] not in {b"{", b"[", "{", "["}:
        return None
    try:
        return loads(text)
    except ValueError:
        return None


def _strings(value: Any) -> Iterator[str]:
    """Yield the strings within a value, in order; some data sets hold JSON in a string."""
    pending = [value]
    while pending:
        value = pending.pop()
        if isinstance(value, str):
            value = inner if (inner := _parse(value)) is not None else value
        if isinstance(value, str):
            yield value
        elif isinstance(value, dict):
            pending += reversed(value.values())
        elif isinstance(value, list):
            pending += reversed(value)


def _name(item: Any) -> str | None:
    found = (item.get(key) for key in _NAMES) if isinstance(item, dict) else ()
    return next((str(name) for name in found if isinstance(name, str | int)), None)
