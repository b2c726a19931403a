"""Any template over any rows -> a text, or the fields of a JSON object."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from codesynth.codec import dumps, loads_exactly
from codesynth.models import Failure
from codesynth.operators.chat import Operator, Parse, Parsed
from codesynth.operators.templates import Template

TYPES: Mapping[str, tuple[type, ...]] = {
    "string": (str,),
    "integer": (int,),
    "number": (int, float),
    "boolean": (bool,),
    "list": (list,),
    "object": (dict,),
}
_STRING = r'"(?:[^"\\]|\\.)*+"'
_STRING_OR_LAST_COMMA = re.compile(_STRING + r"|,(?=\s*[}\]])", re.DOTALL)
_STRING_OR_BRACE = re.compile(_STRING + r"|[{}]", re.DOTALL)


def text_operator(template: Template, output_key: str = "generated") -> Operator:
    """Make the operator that asks what a template says; the answer's text is the new column."""
    return Operator((output_key,), lambda row, _: template.fill(row.fields), parse_text(output_key))


def parse_text(output_key: str) -> Parse:
    """Make the function that takes the whole answer, without white space around it."""
    return lambda answer, _: Parsed({output_key: answer.strip()})


def json_operator(template: Template, require: Mapping[str, str], prefix: str = "") -> Operator:
    """Make the operator that asks for a JSON object; its fields are the new columns.

    Args:
        require: the type of each field that must be there, from ``TYPES``; "" is any type.
        prefix: stands before the name of each field.
    """

    def parse(answer: str, _: str) -> Parsed | Failure:
        found = _read_object(answer, require)
        if isinstance(found, str):
            return Failure("bad_json", found)
        return Parsed({prefix + name: value for name, value in found.items()})

    columns = tuple(prefix + name for name in require)
    return Operator(columns, lambda row, _: template.fill(row.fields), parse)


def _read_object(answer: str, require: Mapping[str, str]) -> dict[str, Any] | str:
    """Read the first JSON object of an answer that has the required fields, or say why not."""
    fault = "the answer has no JSON object"
    for braced in _braced(answer):
        try:
            found = _load(braced)
        except ValueError as exc:
            fault = f"the JSON object cannot be read: {exc}"
            continue
        if not (fault := _fault(found, require)):
            return found
    return fault


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


def _load(braced: str) -> dict[str, Any]:
    """Read a JSON object; a comma before a closing bracket is ignored."""
    try:
        found: dict[str, Any] = loads_exactly(braced)
    except ValueError:
        found = loads_exactly(_STRING_OR_LAST_COMMA.sub(lambda m: m[0].removeprefix(","), braced))
    return found


def _fault(found: Mapping[str, Any], require: Mapping[str, str]) -> str:
    if not found:
        return "the JSON object is empty"
    for name, kind in require.items():
        if name not in found:
            return f'the JSON object has no "{name}"; found {", ".join(found)}'[:300]
        value = found[name]
        if kind and not _is_of(value, kind):
            return f'"{name}" must be of type {kind}, but is {dumps(value).decode()}'[:300]
    return ""


def _is_of(value: object, kind: str) -> bool:
    if isinstance(value, bool):  # in Python, a bool is an int too
        return kind == "boolean"
    return isinstance(value, TYPES[kind])
