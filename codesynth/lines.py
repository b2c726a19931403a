"""What became of a row -> its line: a row of the output, or a failure line."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from typing import Any

from codesynth.codec import dumps
from codesynth.models import Failure, Outcome, Record
from codesynth.storage import splice, take_member

META_KEY = "_codesynth"


def row_line(
    outcome: Outcome, output_key: str, meta: Callable[[Outcome], dict[str, Any]] | None
) -> bytes:
    """Write the output row: the input row's own bytes and the new column.

    A row that has been through another step with ``--meta`` keeps that step's object as
    ``input`` of the new one.
    """
    record = outcome.response.request.record
    value = dumps(outcome.value)
    if meta is None:
        return splice(record.raw, output_key, value)
    raw, about = record.raw, dumps(meta(outcome))
    if META_KEY in record.fields:
        raw, before = take_member(raw, META_KEY)
        about = splice(about, "input", before)
    return splice(splice(raw, output_key, value), META_KEY, about)


def failure_line(outcome: Outcome) -> bytes:
    """Write the failure line of an outcome; see ``record_failure_line``."""
    if outcome.failure is None:
        raise ValueError("the row has not failed")
    response = outcome.response
    return record_failure_line(response.request.record, outcome.failure, text=response.text)


def rejection_line(row: bytes, failure: Failure) -> bytes:
    """Write the failure line of a row that was complete but is not wanted."""
    return b'{"input":%b,"line":null,"error":%b}' % (row, _error(failure))


def _error(failure: Failure) -> bytes:
    return dumps({key: value for key, value in asdict(failure).items() if value is not None})


def record_failure_line(
    record: Record, failure: Failure, row: bytes | None = None, text: str | None = None
) -> bytes:
    """Write a failure line: the row (its text, where it is no JSON object), and why it failed.

    Args:
        row: stands in the place of the record's own.
        text: the answer, if there was one.
    """
    if row is not None:
        raw = row
    elif record.line is None:  # a generation has no row but what it was asked with
        raw = dumps({"generation": record.index, "examples": record.examples})
    elif failure.kind in ("invalid_json", "not_an_object"):
        raw = dumps(record.raw.decode("utf-8", "backslashreplace"))
    else:
        raw = record.raw
    line = b'{"input":%b,"line":%b,"error":%b' % (raw, dumps(record.line), _error(failure))
    if text is not None:
        line += b',"answer":' + dumps(text)
    return line + b"}"
