"""Show a line of an output or of a failures file to people."""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from codesynth.codec import dumps
from codesynth.models import REJECTIONS, Record
from codesynth.settings import LookSettings

_LINE, _BRIEF = 80, 300  # characters of a text for a line, of an object that is not for reading
_TESTS = ("signature", "test", "test_list", "generated_tests")
NOT_VERIFIED = "not verified"
_UNUSUAL = re.compile(r"[^ -~\n\t]")


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
    return more.join((_UNUSUAL.sub(_escape, text[:most]), ""))


def _escape(found: re.Match[str]) -> str:
    return found[0] if found[0].isprintable() else ascii(found[0])[1:-1]


def find(fields: Mapping[str, Any], path: str) -> Any:
    """Find a value by its path, such as ``error.kind``; None if there is none."""
    if path in fields:
        return fields[path]
    name, _, rest = path.partition(".")
    inner = fields.get(name)
    return find(inner, rest) if rest and isinstance(inner, dict) else None


def matches(fields: Mapping[str, Any], condition: tuple[str, str, str]) -> bool:
    """Tell whether a condition of ``--where`` holds; see ``options.read_condition``."""
    path, operator, wanted = condition
    value = find(fields, path)
    if operator in ("=", "!="):
        return (as_text(value) == wanted) == (operator == "=")
    return (value is None) == (operator == "!")


def classify(record: Record) -> tuple[str, str]:
    """Return the outcome of a row (ok, rejected, failed, unreadable), and its status or kind."""
    if record.error is not None:
        return "unreadable", record.error.kind
    if isinstance(record.fields.get("error"), dict) and "input" in record.fields:
        kind = as_text(find(record.fields, "error.kind"))
        return "rejected" if kind in REJECTIONS else "failed", kind
    return "ok", as_text(find(record.fields, "verification.status") or NOT_VERIFIED)


def headline(record: Record) -> str:
    """Say where a row is and its outcome: ``a.jsonl:3: failed: empty: no text``."""
    outcome, label = classify(record)
    error = record.error.message if record.error else find(record.fields, "error.message")
    words = f"{outcome}: {label}: {error}"
    if outcome == "ok":
        words = label if label == NOT_VERIFIED else f"verification {label}"
    return clean(f"{record.where}: {words}", _BRIEF).replace("\n", " ")


def first_text(fields: Mapping[str, Any], names: Sequence[str]) -> str | None:
    """Return the first of some columns that holds a text."""
    return next((value for value in map(fields.get, names) if isinstance(value, str)), None)


def parts(
    record: Record, settings: LookSettings, most: int | None
) -> Iterator[tuple[str, str, str]]:
    """Yield (kind, title, cleaned text of at most ``most`` characters) for each column.

    For a failure line, the columns of its input row come first, then those of the line itself.
    """
    columns, brief = dict(record.fields), []
    if record.error is not None:
        columns = {"line": record.raw.decode(errors="replace")}
    elif classify(record)[0] != "ok":
        row, failure = columns.pop("input"), columns.items()
        columns = {**row} if isinstance(row, dict) else {"input": row}
        columns |= {f"failure: {name}": value for name, value in failure}
    for name, value in columns.items():
        if isinstance(value, str) and (len(value) > _LINE or "\n" in value):
            kind = "code" if name in (*settings.code_keys, *_TESTS) else "text"
            kind = "reasoning" if name in settings.reasoning_keys else kind
            lines = f" ({value.count(chr(10)) + 1:,} lines)" if "\n" in value else ""
            yield kind, clean(name) + lines, clean(value, most)
        else:
            brief.append(f"{clean(name)}: {clean(value, most and _BRIEF)}".replace("\n", " "))
    if brief:
        yield "note", "other columns", "\n".join(brief)
