"""Any template over any rows -> a text, or the fields of a JSON object."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from codesynth.codec import dumps
from codesynth.errors import ConfigError
from codesynth.models import Failure, Record
from codesynth.operators.chat import Parsed
from codesynth.operators.templates import Template
from codesynth.storage.columns import read_text

OUTPUT_KEY = "generated"
TYPES: Mapping[str, tuple[type, ...]] = {
    "string": (str,),
    "integer": (int,),
    "number": (int, float),
    "boolean": (bool,),
    "list": (list,),
    "object": (dict,),
}
_STRING_OR_LAST_COMMA = re.compile(r'"(?:[^"\\]|\\.)*+"|,(?=\s*[}\]])', re.DOTALL)
_STRING_OR_BRACE = re.compile(r'"(?:[^"\\]|\\.)*+"|[{}]', re.DOTALL)


def _refuse_constant(name: str) -> float:
    raise ValueError(f"{name} is not JSON")


_DECODER = json.JSONDecoder(parse_constant=_refuse_constant)


def any_template(text: str | None, name: str = "<prompt_template>") -> Template:
    """Check a template whose placeholders are any columns.

    Raises:
        ConfigError: there is none, or it cannot be filled as it stands.
    """
    if text is None:
        raise ConfigError("a template is needed")
    return Template.parse(text, name=name, required=(), known=None)


@dataclass(frozen=True, slots=True)
class TextOperator:
    """Asks what a template says of each row; the answer's text is the new column."""

    template: Template
    output_key: str = OUTPUT_KEY

    @property
    def columns(self) -> tuple[str, ...]:
        """Name the new columns that are known beforehand."""
        return (self.output_key,)

    def prompt(self, record: Record) -> str | Failure:
        """Fill the template with the row's columns."""
        return self.template.fill_or_fail(record.fields)

    def subject(self, record: Record) -> None:
        """Tell that only the filled template says what is asked."""

    def parse(self, text: str, record: Record) -> Parsed | Failure:
        """Take the whole answer, without white space around it."""
        return Parsed({self.output_key: text.strip()})


@dataclass(frozen=True, slots=True)
class ColumnOperator:
    """Asks a question about the text in one column; the answer's text is the new column.

    Args:
        fill: writes the prompt from the row and the text.
        input_key: the column. Of a list of chat messages in it, the human's first is the text.
    """

    fill: Callable[[Record, str], str | Failure]
    input_key: str
    output_key: str

    @property
    def columns(self) -> tuple[str, ...]:
        """Name the new column."""
        return (self.output_key,)

    def prompt(self, record: Record) -> str | Failure:
        """Write the prompt."""
        said = self.subject(record)
        if said is not None:
            return self.fill(record, said)
        found = read_text(record, self.input_key)
        if isinstance(record.fields.get(self.input_key), list):
            words = f'"{self.input_key}" has no text of a human: no message with the role "user"'
            return Failure("not_a_string", words)
        return found if isinstance(found, Failure) else self.fill(record, found)

    def subject(self, record: Record) -> str | None:
        """Read the text."""
        value = record.fields.get(self.input_key)
        return first_of_human(value) if isinstance(value, list) else _text(value)

    def parse(self, text: str, record: Record) -> Parsed | Failure:
        """Take the whole answer, without white space around it."""
        return Parsed({self.output_key: text.strip()})


def first_of_human(messages: Sequence[object]) -> str | None:
    """Read what the human says first in a chat; ShareGPT's names of the fields are known, too."""
    for message in messages:
        if not isinstance(message, Mapping):
            continue
        role = message.get("role", message.get("from"))
        text = message.get("content", message.get("value"))
        if isinstance(role, str) and role.lower() in ("user", "human") and _text(text):
            return str(text)
    return None


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None


@dataclass(frozen=True, slots=True)
class JSONOperator:
    """Asks for a JSON object; its fields are the new columns.

    Args:
        require: the type of each field that must be there, from ``TYPES``; "" is any type.
        prefix: stands before the name of each field.
    """

    template: Template
    require: Mapping[str, str]
    prefix: str = ""

    @property
    def columns(self) -> tuple[str, ...]:
        """Name the new columns that are known beforehand: the required ones."""
        return tuple(f"{self.prefix}{name}" for name in self.require)

    def prompt(self, record: Record) -> str | Failure:
        """Fill the template with the row's columns."""
        return self.template.fill_or_fail(record.fields)

    def subject(self, record: Record) -> None:
        """Tell that only the filled template says what is asked."""

    def parse(self, text: str, record: Record) -> Parsed | Failure:
        """Read the first JSON object of the answer that has the required fields."""
        fault = "the answer has no JSON object"
        for braced in _braced(text):
            found = _read_object(braced)
            if isinstance(found, str):
                fault = found
            elif not (fault := self._fault(found)):
                return self._columns(found, record)
        return Failure("bad_json", fault)

    def _fault(self, found: Mapping[str, Any]) -> str:
        if not found:
            return "the JSON object is empty"
        for name, kind in self.require.items():
            if name not in found:
                return f'the JSON object has no "{name}"; found {", ".join(found)}'[:300]
            if kind and not _is_of(found[name], kind):
                return f'"{name}" is no {kind}: {dumps(found[name]).decode()}'[:300]
        return ""

    def _columns(self, found: Mapping[str, Any], record: Record) -> Parsed | Failure:
        columns = {f"{self.prefix}{name}": value for name, value in found.items()}
        for name in columns:
            if name in record.fields:
                words = f'the row already has "{name}". Give --prefix for the new columns'
                return Failure("existing_key", words)
        return Parsed(columns)


def _is_of(value: object, kind: str) -> bool:
    if isinstance(value, bool):
        return kind == "boolean"
    return isinstance(value, TYPES[kind])


def _braced(text: str) -> Iterator[str]:
    """Find the outermost {...} of an answer, in a fence, among prose or bare, in one pass."""
    depth = start = 0
    for token in _STRING_OR_BRACE.finditer(text):
        if token[0] == "{":
            start = token.start() if depth == 0 else start
            depth += 1
        elif token[0] == "}" and depth:
            depth -= 1
            if depth == 0:
                yield text[start : token.end()]


def _read_object(braced: str) -> dict[str, Any] | str:
    """Read a JSON object, with commas before a closing bracket or without; or say why not."""
    try:
        found = _DECODER.decode(braced)
    except (ValueError, RecursionError):
        repaired = _STRING_OR_LAST_COMMA.sub(lambda m: "" if m[0] == "," else m[0], braced)
        try:
            found = _DECODER.decode(repaired)
        except ValueError as exc:
            return f"the JSON object cannot be read: {exc}"
        except RecursionError:
            return "the JSON object is nested too deeply"
    result: dict[str, Any] = found  # what is in braces is an object
    return result
