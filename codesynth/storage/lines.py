"""What became of a row -> its line: a row of the output, or a failure line."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from typing import Any

from codesynth.codec import dumps, loads
from codesynth.models import META_KEY, Failure, Record, Row
from codesynth.storage.records import BLANK

_STRING = re.compile(rb'"(?:[^"\\]++|\\.)*+"', re.DOTALL)
_TOKEN = re.compile(_STRING.pattern + rb"|[][{},]", re.DOTALL)
_DEPTH = {b"{": 1, b"[": 1, b"}": -1, b"]": -1}


def row_line(record: Record, columns: Mapping[str, Any]) -> tuple[bytes, int]:
    """Write the output row: the input row's own bytes and the new columns.

    A row that has been through another step with ``--meta`` keeps that step's object as
    ``input`` of the new one.

    Returns:
        The line, and how many of its first bytes are the input row without its closing brace.

    >>> row_line(Record(0, b'{"id": 12345678901234567890}', {}), {"code": "x = 1"})
    (b'{"id": 12345678901234567890,"code":"x = 1"}', 27)
    """
    raw, before = record.raw, None
    if META_KEY in columns and META_KEY in record.fields:
        raw, before = _take_member(raw, META_KEY)
    body = raw[:-1].rstrip(BLANK)
    parts = [body]
    comma = b"" if body == b"{" else b","
    for name, value in columns.items():
        written = dumps(value)
        if name == META_KEY and before is not None:
            written = b'%b,"input":%b}' % (written[:-1], before)
        parts.append(b"%b%b:%b" % (comma, dumps(name), written))
        comma = b","
    parts.append(b"}")
    return b"".join(parts), len(body)


def failure_line(record: Record, failure: Failure, answer: str | None = None) -> bytes:
    """Write a failure line: the row (its text, if it is no JSON object), and why it failed."""
    if record.line is None:  # a generation has no row but what it was asked with
        raw = dumps({"generation": record.index, "examples": record.examples})
    elif failure.kind in ("invalid_json", "not_an_object"):
        raw = dumps(record.raw.decode("utf-8", "backslashreplace"))
    else:
        raw = record.raw
    return _failure_line(raw, record.line, failure, answer)


def rejection_line(row: Row, reason: Failure) -> bytes:
    """Write the failure line of a row that was complete but is not wanted."""
    return _failure_line(
        row.line[: row.raw_bytes] + b"}", row.number or None, reason, row.answer or None
    )


def _failure_line(raw: bytes, number: int | None, failure: Failure, answer: str | None) -> bytes:
    error = dumps({key: value for key, value in asdict(failure).items() if value is not None})
    line = b'{"input":%b,"line":%b,"error":%b' % (raw, dumps(number), error)
    return line + (b',"answer":%b}' % dumps(answer) if answer is not None else b"}")


def _take_member(raw: bytes, key: str) -> tuple[bytes, bytes]:
    """Take a member out of a JSON object's text; return what is left, and the member's value.

    All else keeps its bytes. Of several members of that name, the last one's value counts.
    """
    others, value = [], b"null"
    for member in _members(raw):
        name = _STRING.match(member)
        if name is not None and loads(name[0]) == key:
            value = member[name.end() :].lstrip(b": \t\r\n")
        else:
            others.append(member)
    return b"{%b}" % b",".join(others), value


def _members(raw: bytes) -> Iterator[bytes]:
    """Yield the text of each member of a JSON object's text, such as ``"a": 1``."""
    depth, start = 0, 1
    for token in _TOKEN.finditer(raw):
        sign = token[0]
        if depth == 1 and sign in (b",", b"}"):
            if member := raw[start : token.start()].strip(BLANK):
                yield member
            start = token.end()
        depth += _DEPTH.get(sign, 0)
