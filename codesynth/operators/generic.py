"""Any template over any rows -> a text, or the fields of a JSON object."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from codesynth.codec import dumps, loads_exactly
from codesynth.models import Failure
from codesynth.operators.chat import Fill, Operator, Parsed

TYPES: Mapping[str, tuple[type, ...]] = {
    "string": (str,),
    "integer": (int,),
    "number": (int, float),
    "boolean": (bool,),
    "list": (list,),
    "object": (dict,),
}
_STRING = r'("(?:[^"\\]|\\.)*+")'
_STRING_OR_LAST_COMMA = re.compile(_STRING + r"|,(?=\s*[}\]])", re.DOTALL)
_STRING_OR_BRACE = re.compile(_STRING + r"|[{}]", re.DOTALL)


def text_operator(fill: Fill, output_key: str = "generated") -> Operator:
    """Make the operator whose new column is the answer's text, without white space around it."""

    def parse(answer: str, _: str) -> Parsed:
        return Parsed({output_key: answer.strip()})

    return Operator((output_key,), fill, parse)


def json_operator(fill: Fill, require: Mapping[str, str], prefix: str = "") -> Operator:
    """Make the operator that asks for a JSON object; its fields are the new columns.

    Args:
        fill: writes the prompt.
        require: the type of each field that must be there, from ``TYPES``; "" is any type.
        prefix: stands before the name of each field.
    """

    def parse(answer: str, _: str) -> Parsed | Failure:
        fault = "the answer has no JSON object"
        for braced in _braced(answer):
            try:
                found = loads_exactly(_STRING_OR_LAST_COMMA.sub(r"\1", braced))
            except ValueError as exc:
                fault = f"the JSON object cannot be read: {exc}"
                continue
            if not (fault := _fault(found, require)):
                return Parsed({prefix + name: value for name, value in found.items()})
        return Failure("bad_json", fault)

    return Operator(tuple(prefix + name for name in require), fill, parse)


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


def _fault(found: Mapping[str, Any], require: Mapping[str, str]) -> str:
    """Say what a JSON object lacks; empty if nothing."""
    if not found:
        return "the JSON object is empty"
    for name, kind in require.items():
        if name not in found:
            return f'the JSON object has no "{name}"; found {", ".join(found)}'[:300]
        value = found[name]
        if kind and type(value) not in TYPES[kind]:  # a bool is an int too, but of another type
            return f'"{name}" must be of type {kind}, but is {dumps(value).decode()}'[:300]
    return ""
