"""Read a row's columns; if one cannot be read, say which column may be meant."""

from __future__ import annotations

from difflib import get_close_matches

from codesynth.models import Failure, Record

LIKELY = ("instruction", "generated_instruction", "prompt", "question", "text", "generated_code")
"""Columns that hold what people mean, most likely first."""


def read_text(record: Record, key: str) -> str | Failure:
    """Read a column that must hold a string, or say why it cannot be read.

    >>> read_text(Record(0, b"", {"instruction": "Sort a list."}), "instrction").message
    'missing key "instrction"; found "instruction". Try --input-key instruction'
    """
    if record.error is not None:
        return record.error
    value = record.fields.get(key)
    if isinstance(value, str):
        return value
    if key in record.fields:
        return Failure("not_a_string", f'"{key}" is not a string')
    return missing(record, key)


def missing(record: Record, key: str) -> Failure:
    """Say that a row has no such column, and which one may be meant."""
    if {"input", "error"} <= record.fields.keys():
        words = "this is a failures file. Take the rows out of it: jq -c .input FILE"
        return Failure("missing_key", f'missing key "{key}"; {words}')
    texts = [name for name, value in record.fields.items() if isinstance(value, str)]
    if not texts:
        return Failure("missing_key", f'missing key "{key}"; found no column with text')
    likely = [name for name in LIKELY if name in texts]
    best = [*get_close_matches(key, texts, n=1), *likely, *texts][0]
    found = ", ".join(f'"{name}"' for name in dict.fromkeys([best, *texts][:4]))
    return Failure("missing_key", f'missing key "{key}"; found {found}. Try --input-key {best}')
