"""Write the line of a row: a row of the output, or a failure line."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from codesynth.codec import dumps, loads_exactly
from codesynth.models import META_KEY, Failure, Record, Row
from codesynth.storage.records import BLANK


def row_line(record: Record, columns: Mapping[str, Any]) -> tuple[bytes, int]:
    """Write the output row: the input row's own bytes and the new columns.

    A row that has been through another step with ``--meta`` keeps that step's object as
    ``input`` of the new one.

    Returns:
        The line, and how many of its first bytes are the input row without its closing brace.

    >>> row_line(Record(0, b'{"id": 12345678901234567890}', {}), {"code": "x = 1"})
    (b'{"id": 12345678901234567890,"code":"x = 1"}', 27)
    """
    raw = record.raw
    if META_KEY in columns and META_KEY in record.fields:
        raw, earlier = _take_meta(record)
        columns = {**columns, META_KEY: {**columns[META_KEY], "input": earlier}}
    body = raw[:-1].rstrip(BLANK)
    comma = b"" if body == b"{" or not columns else b","
    return body + comma + dumps(columns)[1:], len(body)


def _take_meta(record: Record) -> tuple[bytes, Any]:
    """Take the ``--meta`` object of an earlier step out of a row.

    The rest of the row keeps its bytes if codesynth wrote the object and it is not the first
    column.
    """
    meta = record.fields[META_KEY]
    before, found, after = record.raw.rpartition(b",%b" % dumps({META_KEY: meta})[1:-1])
    if found and after[:1] in (b",", b"}"):
        return before + after, meta
    fields = loads_exactly(record.raw.decode())
    meta = fields.pop(META_KEY)
    return dumps(fields), meta


def failure_line(record: Record, failure: Failure, answer: str | None = None) -> bytes:
    """Write a failure line: the row, or its text if it is not a JSON object; and why it failed."""
    if record.line is None:  # a generation has no input row
        raw = dumps({"generation": record.index, "examples": record.examples})
    elif failure.kind in ("invalid_json", "not_an_object"):
        raw = dumps(record.raw.decode("utf-8", "backslashreplace"))
    else:
        raw = record.raw
    return _failure_line(raw, record.line, failure, answer)


def rejection_line(row: Row, reason: Failure) -> bytes:
    """Write the failure line of a row that a filter has rejected."""
    raw = row.line[: row.raw_bytes] + b"}"
    return _failure_line(raw, row.number or None, reason, row.answer or None)


def _failure_line(raw: bytes, number: int | None, failure: Failure, answer: str | None) -> bytes:
    error = {key: value for key, value in asdict(failure).items() if value is not None}
    rest = {"line": number, "error": error} | ({} if answer is None else {"answer": answer})
    return b'{"input":%b,%b' % (raw, dumps(rest)[1:])
