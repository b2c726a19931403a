"""A line of an output or of a failures file, taken apart for people to read."""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypeAlias

from codesynth.codec import dumps
from codesynth.local_settings import LookSettings
from codesynth.models import REJECTIONS, Record

_TESTS = ("signature", "test", "test_list", "generated_tests")
_LINE = 80  # characters; a longer text is shown by itself, not among the other columns
_BRIEF = 300  # characters of a value among the other columns
_UNUSUAL = re.compile(r"[^ -~\n\t]")

Part: TypeAlias = tuple[str, str, str]
"""A column of a row: its kind (code, reasoning, text; note for short ones), its title, its text."""


def as_text(value: object) -> str:
    """Return a text as it is, anything else as JSON."""
    return value if isinstance(value, str) else dumps(value).decode()


def clean(value: object, most: int | None = None) -> str:
    r"""Cut a value's text, and escape control characters and others that a terminal cannot show.

    >>> clean("a\x1b[2Jb"), clean("abcdef", 4)
    ('a\\x1b[2Jb', 'abcd\n[... 2 more characters]')
    """
    text = as_text(value)
    more = f"\n[... {len(text) - most:,} more characters]" if most and len(text) > most else ""
    shown = _UNUSUAL.sub(lambda c: c[0] if c[0].isprintable() else ascii(c[0])[1:-1], text[:most])
    return shown + more


def find(fields: Mapping[str, Any], path: str) -> Any:
    """Find a value by its path, such as ``error.kind``; None if there is none."""
    if path in fields:
        return fields[path]
    name, _, rest = path.partition(".")
    inner = fields.get(name)
    return find(inner, rest) if rest and isinstance(inner, dict) else None


def first_text(fields: Mapping[str, Any], names: Sequence[str]) -> str | None:
    """Return the first of some columns that holds a text."""
    return next((value for value in map(fields.get, names) if isinstance(value, str)), None)


def classify(record: Record) -> tuple[str, str]:
    """Return the outcome of a row (ok, rejected, failed, unreadable), and its status or kind."""
    if record.error is not None:
        return "unreadable", record.error.kind
    if isinstance(record.fields.get("error"), dict) and "input" in record.fields:
        kind = as_text(find(record.fields, "error.kind"))
        return "rejected" if kind in REJECTIONS else "failed", kind
    status = find(record.fields, "verification.status")
    return "ok", f"verification {as_text(status)}" if status else "not verified"


def headline(record: Record) -> str:
    """Say where a row is and its outcome: ``a.jsonl:3: failed: empty: no text``."""
    error = record.error.message if record.error else find(record.fields, "error.message")
    words = ": ".join((record.where, *classify(record), *([as_text(error)] if error else [])))
    return clean(words, _BRIEF).replace("\n", " ")


def parts(record: Record, settings: LookSettings, most: int | None) -> Iterator[Part]:
    """Yield the columns of a row, cleaned and cut to ``most`` characters; short ones as one note.

    For a failure line, the columns of its input row come first, then those of the line itself.
    """
    columns, brief = dict(record.fields), []
    if record.error is not None:
        columns = {"line": record.raw.decode(errors="replace")}
    elif classify(record)[0] != "ok":
        row, failure = columns.pop("input"), columns.items()
        columns = {**row} if isinstance(row, dict) else {"input": row}
        columns |= {f"failure: {name}": value for name, value in failure}
    kinds = dict.fromkeys((*settings.code_keys, *_TESTS), "code")
    kinds |= dict.fromkeys(settings.reasoning_keys, "reasoning")
    kinds |= dict.fromkeys(settings.instruction_keys, "text")
    for name, value in columns.items():
        if isinstance(value, str) and (name in kinds or len(value) > _LINE or "\n" in value):
            lines = f" ({value.count(chr(10)) + 1:,} lines)" if "\n" in value else ""
            yield kinds.get(name, "text"), clean(name) + lines, clean(value, most)
        else:
            brief.append(f"{clean(name)}: {clean(value, most and _BRIEF)}".replace("\n", " "))
    if brief:
        yield "note", "other columns", "\n".join(brief)
