"""A line of an output or a failures file as people look at it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

from codesynth.codec import dumps
from codesynth.models import META_KEY, REJECTIONS, Record
from codesynth.settings import LookSettings

_BRIEF = 300  # characters of a value that is not there to be read: an object, a list
_TEST_COLUMNS = ("signature", "test", "test_list", "generated_tests")
_CONTROLS = (*range(0x7F, 0xA0), 0x2028, 0x2029, *range(0xD800, 0xE000), 0xFEFF)
_DIRECTIONS = (0x61C, 0x200E, 0x200F, *range(0x202A, 0x202F), *range(0x2066, 0x206A))
_HARMLESS = {code: f"\\u{code:04x}" for code in (*_CONTROLS, *_DIRECTIONS)}
_HARMLESS |= {code: chr(0x2400 + code) for code in range(32) if chr(code) not in "\n\t"}


def clean(value: object, most: int | None = None) -> str:
    r"""Make a harmless text of a value: control characters become visible ones.

    Args:
        value: a text is taken as it is, anything else as JSON.
        most: characters to keep; what is left out is counted in the last line.

    >>> clean("a\x1b[2Jb"), clean("abcdef", 4)
    ('a␛[2Jb', 'abcd\n[... 2 more characters]')
    """
    text = value if isinstance(value, str) else dumps(value).decode()
    if most is not None and len(text) > most:
        return f"{text[:most].translate(_HARMLESS)}\n[... {len(text) - most:,} more characters]"
    return text.translate(_HARMLESS)


def find(fields: Mapping[str, Any], path: str) -> Any:
    """Find a value by its path; None where there is none.

    >>> find({"error": {"kind": "empty"}}, "error.kind")
    'empty'
    """
    if path in fields:
        return fields[path]
    name, dot, rest = path.partition(".")
    inner = fields.get(name)
    return find(inner, rest) if dot and isinstance(inner, dict) else None


def matches(fields: Mapping[str, Any], condition: tuple[str, str, str]) -> bool:
    """Tell whether a condition of ``--where`` holds; see ``options.read_condition``."""
    key, operator, wanted = condition
    value = find(fields, key)
    if operator in ("", "!"):
        return (value is None) == (operator == "!")
    text = value if isinstance(value, str) else dumps(value).decode()
    return (text == wanted) == (operator == "=")


@dataclass(frozen=True, slots=True)
class View:
    """A line taken apart.

    Attributes:
        where: file and line number.
        fate: ``ok``, ``rejected``, ``failed``, or ``unreadable`` for a line that is no row.
        label: status of the verification, or kind of the failure; may be empty.
        row: the row; of a failure line the input row.
        error: of a failure line.
        answer: of a failure line; the line itself where it is unreadable.
    """

    where: str
    fate: str
    label: str
    row: Mapping[str, Any]
    error: Mapping[str, Any] = field(default_factory=dict)
    answer: object = None

    @classmethod
    def of(cls, record: Record) -> View:
        """Take a line apart."""
        fields, where = record.fields, record.where
        if (wrong := record.error) is not None:
            line = record.raw.decode(errors="replace")
            return cls(where, "unreadable", wrong.kind, {}, {"message": wrong.message}, line)
        error = fields.get("error")
        if not isinstance(error, dict) or not {"input", "line"} <= fields.keys():
            return cls(where, "ok", str(find(fields, "verification.status") or ""), fields)
        kind, row, number = str(error.get("kind")), fields["input"], fields["line"]
        return cls(
            where if number is None else f"{where} (input line {number})",
            "rejected" if kind in REJECTIONS else "failed",
            kind,
            row if isinstance(row, dict) else {"input": row},
            error,
            fields.get("answer"),
        )

    def text(self, names: Sequence[str]) -> str | None:
        """Read the first column that holds a text, or a chat: its last words of the user."""
        for value in map(self.row.get, names):
            if isinstance(value, str):
                return value
            turns = value if isinstance(value, list) else []
            said = [
                t.get("content") for t in turns if isinstance(t, dict) and t.get("role") == "user"
            ]
            if said and isinstance(said[-1], str):
                return said[-1]
        return None


class Part(NamedTuple):
    """A piece of what is shown of a row; its texts are harmless."""

    kind: Literal["head", "text", "code", "reasoning", "note"]
    title: str
    text: str = ""


def describe(view: View, told: LookSettings, most: int | None) -> Iterator[Part]:
    """Tell a row: its head, then its columns.

    Args:
        most: characters of each text; None for all of them.
    """
    tests = [find(view.row, f"verification.tests_{name}") for name in ("passed", "run")]
    more = f", {tests[0]} of {tests[1]} tests passed" if None not in tests else ""
    yield Part("head", clean(f"{view.where}: {view.fate} {view.label}".rstrip() + more))
    if view.error:
        about = [f"{k}: {view.error[k]}" for k in ("status", "attempts") if view.error.get(k)]
        yield Part(
            "text", "error", clean("\n".join([str(view.error.get("message")), *about]), most)
        )
    short, last = [], []
    for name, value in view.row.items():
        title, is_text = clean(name), isinstance(value, str)
        if is_text and name in told.reasoning_keys:
            yield Part("reasoning", title, clean(value, most))
        elif is_text and (len(value) > _BRIEF or "\n" in value):
            is_code = name in told.code_keys or name in _TEST_COLUMNS
            yield Part("code" if is_code else "text", title, clean(value, most))
        else:
            brief = f"{title}: {clean(value, most and _BRIEF)}"
            (last if name in ("verification", META_KEY) else short).append(brief)
    if view.answer is not None:
        title = "line" if view.fate == "unreadable" else "answer"
        yield Part("text", title, clean(view.answer, most))
    if short or last:
        yield Part("note", "short columns", "\n".join(short + last))
